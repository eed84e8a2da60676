"""The executor contract: each fault of an executor fails the tests about it, and every test can fail."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from ttd_core.testing.executors import ExecutorContract

BROKEN = pathlib.Path(__file__).with_name("broken_executors.py")
#: Tests that each fault must fail; it may fail others too.
FAILS = {
    "ReturnsNoArrays": {
        "json_and_arrays_come_back_as_they_were",
        "a_tuple_comes_back_as_a_list_and_a_scalar_as_a_number",
    },
    "ReturnsArraysForLists": {"many_arrays_go_in_and_come_back_as_lists"},
    "InjectsNothing": {"injected_names_and_helpers_are_there_before_the_program"},
    "GivesReadOnlyArrays": {"arrays_given_to_a_job_are_writable_copies"},
    "ReturnsNothingDeep": {"what_one_job_returns_another_can_be_given"},
    "AcceptsWhatIsNoData": {"a_value_that_is_no_data_is_invalid_and_says_where"},
    "SaysMoreThanALine": {"a_failed_program_is_told_in_one_line"},
    "ShowsItsOwnFrames": {"the_output_of_a_failed_program_shows_its_own_frames_only"},
    "HasNoLibraries": {"libraries_not_preloaded_can_still_be_imported"},
    "SeedsEveryJobAlike": {"dataclasses_and_random_numbers_work_as_in_a_program_of_its_own"},
    "KeepsNoLimit": {
        "wall_time_ends_a_sleeper",
        "processor_time_ends_a_busy_loop",
        "memory_is_bounded_at_once_and_by_growth",
        "output_is_counted_cut_to_its_tail_and_bounded",
        "a_result_beyond_its_cap_is_an_output_limit",
        "scratch_is_writable_sized_and_empty_for_each_job",
        "how_a_program_can_end",
        "a_limit_that_the_compiler_meets_is_told",
    },
    "CountsNoThreads": {"threads_are_allowed_and_bounded"},
    "GivesEveryJobAFolder": {"without_scratch_nothing_can_be_written"},
    "GivesEveryJobTwoProcessors": {"blas_uses_as_many_threads_as_the_job_has_processors"},
    "ForgetsWhatWasPrinted": {"what_was_printed_before_a_timeout_is_kept"},
    "ReportsNoUsage": {"usage_is_reported"},
    "CompilesEachTime": {"a_program_is_compiled_once_and_run_on_each_input"},
    "NamesAnotherLine": {"source_that_does_not_compile_names_the_line"},
    "CompilesHalfCharacters": {"half_a_character_is_refused_and_a_whole_one_is_not"},
    "LetsACompilerReadDevices": {"a_compiler_reads_no_device"},
    "PassesNoArguments": {"arguments_and_standard_error_of_a_program"},
    "GivesProgramsLittleStack": {"a_program_recurses_deeply"},
    "BlamesTheCandidate": {"a_program_that_is_not_held_is_our_failure"},
    "MixesAnswersUp": {"jobs_from_many_threads_each_get_their_own_answer"},
    "TakesAnyNumberOfJobs": {"submit_blocks_when_twice_as_many_jobs_wait_as_there_are_workers"},
    "CancelsNothing": {"cancelling_ends_a_running_job_and_drops_a_waiting_one"},
    "SharesTimedCores": {"a_timed_job_shares_its_core_with_no_other"},
    "StreamsNothing": {"output_is_streamed_while_the_job_runs"},
}


def test_every_test_of_the_contract_has_a_fault_that_fails_it() -> None:
    tests = {name.removeprefix("test_") for name in dir(ExecutorContract) if name.startswith("test_")}
    assert set().union(*FAILS.values()) == tests


@pytest.mark.slow
def test_each_fault_fails_the_tests_that_are_about_it() -> None:
    cases = [f"{BROKEN}::Test{fault}::test_{test}" for fault, tests in FAILS.items() for test in tests]
    command = [sys.executable, "-m", "pytest", "-q", "-rf", "-p", "no:cacheprovider", *cases]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    failed: dict[str, set[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("FAILED"):
            _, fault, test = line.split()[1].split("::", 2)
            name = test.partition("[")[0].removeprefix("test_")
            failed.setdefault(fault.removeprefix("Test"), set()).add(name)
    assert failed == FAILS, done.stdout
