"""Every number that ttd measures of a step, by name: what ``run.db``, events, reports and trackers hold.

Each is a member of one of three lists, and equal to its name. A step that has no value for one (no valid
rollout, no training) leaves it out. A policy of another distribution may bring further names; they are kept
and tracked like these.
"""

from __future__ import annotations

import enum

#: What precedes the name of a :class:`Timing` among a step's metrics.
SECONDS = "seconds/"


class Described(enum.StrEnum):
    """A name with what people need to know of it.

    :ivar label: heads its chart; unique.
    :ivar unit: of its values.
    :ivar meaning: says more, as the end of a sentence.
    """

    label: str
    unit: str
    meaning: str

    def __new__(cls, name: str, label: str, unit: str, meaning: str) -> Described:
        """A member that is its own name."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.label, member.unit, member.meaning = label, unit, meaning
        return member


class Metric(Described):
    """What is measured of a step: a row each in the table ``metrics``, and in ``step_finished`` events."""

    # what the rollouts came to
    VALID_SHARE = "valid_share", "Valid share", "share of rollouts", "rollouts with a verdict of ok"
    REWARD_MEAN = "reward_mean", "Mean reward", "reward, failures as 0", "over all rollouts"
    INFRASTRUCTURE = (
        *("infrastructure", "Infrastructure failures", "rollouts"),
        "rollouts lost to the sandbox itself; they are left out of learning",
    )
    PROBLEM_ERRORS = (
        *("problem_errors", "Errors of the problem", "rollouts"),
        "rollouts on which the problem's own code failed; they count as failed ones",
    )
    LATE = "late", "Late rollouts", "rollouts", "those that were not judged at the step's deadline"
    JOINED = "joined", "Joined rollouts", "rollouts", "late ones of earlier steps that the step learned from"
    PROGRAMS = "programs", "Programs", "rollouts", "those whose reply held a program"
    REPEATS = "repeats", "Repeats", "programs", "those equal to a starting one or to their own start's"
    REPEAT_SHARE = (
        *("repeat_share", "Repeat share", "share of programs"),
        "those equal to a starting one or to their own start's",
    )
    REUSED = (
        *("reused", "Reused verdicts", "rollouts"),
        "those with the verdict on an equal program from the same start, which was not run again",
    )
    WENT_ON = "went_on", "Went on", "programs", "those that ran with all of their budget after shorter runs"
    SECONDS_SPARED = (
        *("seconds_spared", "Time spared", "s"),
        "at most: budgets of programs that did not go on, less what all valid ones' shorter runs took",
    )
    SCORE_START = "score_start", "Best start", "score", "best score among the step's start states"
    SCORE_GAIN = (
        *("score_gain", "Largest gain", "score"),
        "how much better than its own start the rollout is that gained most; negative when all lost",
    )
    SCORE_NOVEL = "score_novel", "Best new", "score", "best score of a program that repeats nothing"
    GAIN_NOVEL = "gain_novel", "Gain of the best new", "score", "how much better than its start that one is"
    RUN_SCORE_BEST = "run_score_best", "Best so far", "score", "best score of the run after the step"
    # tokens
    TOKENS = "tokens", "Tokens sampled", "tokens", "of all replies, forced ones included"
    TOKENS_FORCED = "tokens_forced", "Tokens forced", "tokens", "appended without sampling; not trained"
    TOKENS_PER_S = "tokens_per_s", "Tokens a second", "tokens/s", "while sampling"
    TRUNCATED_SHARE = (
        *("truncated_share", "Truncated share", "share of rollouts"),
        "replies cut at the token limit",
    )
    # the objective
    GROUPS_USED = "groups_used", "Groups used", "groups", "groups that carry gradient: their rewards differ"
    TOKENS_TRAINED = "tokens_trained", "Tokens trained", "tokens", "in the groups used, forced ones left out"
    ADVANTAGE_STD = (
        *("advantage_std", "Spread of advantages", "standard deviation"),
        "over the rollouts of the groups used, before KL shaping",
    )
    BETA_MEAN = (
        *("beta_mean", "Adaptive beta", "per unit of reward"),
        "inverse temperature of the entropic objective, mean over the groups used",
    )
    KL = (
        *("kl", "KL to the base model", "nats a token"),
        "mean log-ratio of the policy that sampled to the model without its adapter, over trained tokens",
    )
    STALENESS = (
        *("staleness", "Staleness", "steps"),
        "steps that the policy learned between giving a reply and learning from it, mean over replies; where "
        "steps overlap or rollouts may be late",
    )
    STALENESS_MAX = "staleness_max", "Largest staleness", "steps", "the same of the reply that is stalest"
    # the optimiser's step
    LOSS = "loss", "Loss", "nats", "of the policy gradient, summed over trained tokens"
    GRAD_NORM = "grad_norm", "Gradient norm", "L2 norm", "of the adapter's gradient, before the step"
    UPDATE_NORM = "update_norm", "Update norm", "L2 norm", "how far the step moved the adapter's weights"
    LOGPROB_GAP = (
        *("logprob_gap", "Gap of log-probabilities", "nats"),
        "mean absolute difference between those sampled with and those recomputed, over trained tokens",
    )
    LOGPROB_GAP_MAX = "logprob_gap_max", "Largest gap of log-probabilities", "nats", "over trained tokens"
    RATIO_MAX = (
        *("ratio_max", "Largest importance ratio", "ratio"),
        "largest probability under the learner over that under the sampler, over trained tokens",
    )
    PACKS = "packs", "Packs", "sequences", "sequences that replies were packed into for training"
    SECONDS_BASE = "seconds_base", "Base log-probabilities", "s", "wall time of scoring under the base model"
    SECONDS_TRAIN = "seconds_train", "Training", "s", "wall time of gradients and the optimiser's step"
    # servers
    REQUESTS = "requests", "Requests", "requests", "sent to a server, tries after a failure included"
    RETRIES = "retries", "Retries", "requests", "tries after a failure"
    TOKENS_PROMPT = "tokens_prompt", "Prompt tokens", "tokens", "by the server's own count"
    COST = "cost", "Cost", "currency of the prices", "by the prices that the config states"


class Timing(Described):
    """Wall seconds of a part of a step: rows of the table ``metrics``, named ``seconds/NAME``."""

    PREPARE = "prepare", "Preparation", "s", "start states are picked and prompts rendered"
    SAMPLING = (
        *("sampling", "Sampling", "s"),
        "from the first prompt to the last reply; judging goes on beside it",
    )
    ROLLOUTS = "rollouts", "Sampling and judging", "s", "from the first prompt to the last verdict"
    WAITING = (
        *("waiting", "Waiting", "s"),
        "for the last verdicts: the policy neither samples nor learns",
    )
    LEARN = "learn", "Learning", "s", "the metrics and one step of the learner"
    ADMIT = "admit", "Admission", "s", "the archive takes in what is new"
    CHECKPOINT = "checkpoint", "Checkpoint", "s", "the policy is written to disk"

    @property
    def key(self) -> str:
        """Its name among a step's metrics."""
        return f"{SECONDS}{self.value}"


class StepTotal(Described):
    """Totals of a step that trackers get beside its metrics; ``run.db`` has them in the table ``steps``."""

    ROLLOUTS = "rollouts", "Rollouts", "rollouts", "how many the step had"
    VALID = "valid", "Valid rollouts", "rollouts", "how many of them were ok"
    REWARD_BEST = "reward_best", "Best reward", "reward", "of the step"
    SCORE_BEST = "score_best", "Best of the step", "score", "score of the rollout with the best reward"
    STEP_SECONDS = "step_seconds", "Time of the step", "s", "wall time, storage included"
