// A plan is a list of machines, each bought as soon as it can be paid.
//
// Good plans look alike. For some 30 to 190 turns they buy machines of level 0 of several kinds and a short
// chain of one helper kind; from then on only the chain of one main kind: levels 0 and 1 in turn, then 1
// and 2, then 2 and 3, the dearer one whenever it can be paid, and in the end a block of each level from 3
// down to 0. The choice of main kind and helper decides most of the score, so it is searched first:
//
// 1. Starts. For a main kind, a helper and a turn, a small beam grows as many apples as possible until that
//    turn; then six turns, at which the main chain passes from one pair of levels to the next, are tuned by
//    local search. All pairs of kinds are tried narrowly, then those of the best main kinds more widely, then
//    second helpers beside the best pairs.
// 2. The eight best starts are annealed for a moment each, in rounds; half of them, and those far behind,
//    fall out after each.
// 3. The last one is annealed until the time is up.
#pragma GCC optimize("O3")
#pragma GCC target("avx2,fma")
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>
using namespace std;

static const int KINDS = 10, LEVELS = 4, TURNS = 500, ALL = KINDS * LEVELS;
static const double LIMIT = 1.87;                      // seconds of processor time
static const double HOT = 0.0045, COLD = 0.0001;  // temperatures, in log2 of the apples in the end
static long long capacity[KINDS], cost[ALL];  // the statement's A and C; machine (i, j) is i * KINDS + j

static double seconds() {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return double(now.tv_sec) + double(now.tv_nsec) * 1e-9;
}

static uint64_t random_state = 88172645463325252ull;
static inline uint32_t random_bits() {
    random_state ^= random_state << 7;
    random_state ^= random_state >> 9;
    return uint32_t(random_state >> 16);
}
static inline int below(int n) { return int((uint64_t(random_bits()) * uint64_t(n)) >> 32); }
static inline bool coin() { return random_bits() & 1; }
static inline double unit() { return (random_bits() + 0.5) * (1.0 / 4294967296.0); }

// ---- the machines that a search looks at -----------------------------------------------------------
//
// Four kinds, the lanes, may have chains; the other six have level 0 only, where each purchase adds a
// constant income. Machine 4 * level + lane is that of a lane, machines from FLAT on are level 0 of the
// other kinds.

typedef double Four __attribute__((vector_size(32)));
static const int LANES = 4, FLAT = LANES * LEVELS, MACHINES = FLAT + KINDS - LANES, INCOME = LEVELS;

static double first_price[MACHINES];
static Four added[MACHINES];   // what a purchase adds to Farm::power[row_of[machine]]
static int row_of[MACHINES];
static int named[MACHINES];    // the machine as the statement numbers it

static void choose_lanes(const vector<int>& kinds) {
    for (int m = 0; m < MACHINES; m++) {
        bool flat = m >= FLAT;
        int level = flat ? 0 : m / LANES, lane = flat ? 0 : m % LANES;
        int kind = kinds[flat ? m - FLAT + LANES : lane];
        added[m] = Four{0, 0, 0, 0};
        added[m][lane] = level == 0 ? double(capacity[kind]) : 1.0;
        row_of[m] = flat ? INCOME : level;
        named[m] = level * KINDS + kind;
        first_price[m] = double(cost[named[m]]);
    }
}

static inline double sum(Four v) { return (v[0] + v[2]) + (v[1] + v[3]); }

// The state before a turn. Powers of level 0 are times the capacity; machines of level 3 stay one of each
// kind. Doubles are exact up to 2^53, and above that no purchase of a sensible plan is in doubt.
struct alignas(32) Farm {
    Four count[LEVELS - 1];
    Four power[LEVELS + 1];  // the last row, INCOME, holds the constant income in its first lane
    double apples;
    double price[MACHINES];  // of the next unit
    int turn;

    void begin() {
        memset(this, 0, sizeof *this);
        for (auto& each : count) each = Four{1, 1, 1, 1};
        memcpy(price, first_price, sizeof price);
        apples = 1;
    }
    inline void buy(int m) {
        apples -= price[m];
        price[m] += first_price[m];
        power[row_of[m]] += added[m];
    }
    inline void work() {
        apples += sum(power[0] * count[0] + power[INCOME]);
        count[0] += count[1] * power[1];
        count[1] += count[2] * power[2];
        count[2] += power[3];
        turn++;
    }
};

// Binomial coefficients: in how many ways production passes down one to four levels within `left` turns.
struct Ways {
    double one, two, three, four;
    explicit Ways(double left)
        : one(left), two(one * (left - 1) / 2), three(two * (left - 2) / 3), four(three * (left - 3) / 4) {}
};

// Apples after `left` more turns without buying.
static double worth(const Farm& f, int left) {
    Ways ways(left);
    Four chain = f.count[2] * ways.three + f.power[3] * ways.four;
    chain = f.count[1] * ways.two + f.power[2] * chain;
    chain = f.count[0] * ways.one + f.power[1] * chain;
    return f.apples + sum(f.power[0] * chain + f.power[INCOME] * ways.one);
}

// ---- starts: a beam until a turn -------------------------------------------------------------------

struct Node {
    Farm farm;
    uint64_t hash;  // of the purchases, in any order
    int before, machine;
};
struct Child {
    double value;
    uint64_t hash;
    int parent;
    short machine, wait;
};
static const int LONGEST_WAIT = 24, LATE = 5;
static uint64_t hash_of[MACHINES];
static vector<Node> nodes;
static vector<Child> children[TURNS + 1];  // by the turn at which they are free to act again

// Lists what can be bought from a node, now or as soon as it can be paid. The value is the apples at turn
// `horizon` without buying more.
static void expand(int index, uint32_t allowed, int until, int horizon) {
    Farm f = nodes[index].farm;
    uint64_t hash = nodes[index].hash;
    int first = f.turn;
    uint32_t open = allowed;
    for (int m = LANES; m < FLAT; m++)
        if (f.power[m / LANES - 1][m % LANES] == 0) open &= ~(1u << m);
    for (; open && f.turn < first + LONGEST_WAIT && f.turn < until + LATE; f.work()) {
        uint32_t paid = 0;
        for (uint32_t left = open; left; left &= left - 1) {
            int m = __builtin_ctz(left);
            if (f.price[m] <= f.apples) paid |= 1u << m;
        }
        if (!paid) continue;
        open &= ~paid;
        // the apples at the horizon are linear in each power: value and slopes serve all purchases at once
        Ways ways(max(2, horizon - f.turn));
        Four third = f.count[2] * ways.three + f.power[3] * ways.four;
        Four second = f.count[1] * ways.two + f.power[2] * third;
        Four whole = f.count[0] * ways.one + f.power[1] * second;
        double value = f.apples + sum(f.power[0] * whole + f.power[INCOME] * ways.one);
        Four slope[LEVELS + 1] = {whole, f.power[0] * second, f.power[0] * f.power[1] * third,
                                  f.power[0] * f.power[1] * f.power[2] * ways.four,
                                  Four{ways.one, ways.one, ways.one, ways.one}};
        for (uint32_t left = paid; left; left &= left - 1) {
            int m = __builtin_ctz(left);
            double gain = sum(added[m] * slope[row_of[m]]) - f.price[m];
            children[f.turn + 1].push_back(
                {value + gain, hash + hash_of[m], index, short(m), short(f.turn - first)});
        }
    }
}

// A beam of purchases out of `allowed` until turn `until`, for the most apples at `horizon`.
// Returns the nodes that first stand at that turn, the best first.
static vector<int> grow(int width, uint32_t allowed, int until, int horizon) {
    nodes.clear();
    for (auto& each : children) each.clear();
    nodes.push_back({{}, 0, -1, -1});
    nodes[0].farm.begin();
    expand(0, allowed, until, horizon);
    vector<int> ends;
    vector<uint64_t> seen;
    for (int t = 1; t <= min(until + LATE, TURNS) && ends.empty(); t++) {
        auto& here = children[t];
        auto sorted = here.begin() + min(here.size(), size_t(3 * width));
        partial_sort(here.begin(), sorted, here.end(),
                     [](const Child& a, const Child& b) { return a.value > b.value; });
        seen.clear();
        for (auto child = here.begin(); child != sorted && int(seen.size()) < width; ++child) {
            if (find(seen.begin(), seen.end(), child->hash) != seen.end()) continue;
            seen.push_back(child->hash);
            Node node{nodes[child->parent].farm, child->hash, child->parent, child->machine};
            for (int w = 0; w < child->wait; w++) node.farm.work();
            node.farm.buy(child->machine);
            node.farm.work();
            int index = int(nodes.size());
            nodes.push_back(node);
            if (t < until)
                expand(index, allowed, until, horizon);
            else
                ends.push_back(index);
        }
    }
    return ends;
}

// ---- starts: the main chain by a rule --------------------------------------------------------------

// Phase k, until turn end[k], buys level UPPER[k] of lane 0 when it can be paid and LOWER[k] otherwise.
struct Rule {
    int end[6];
};
static const int UPPER[7] = {0, 1, 2, 3, 2, 1, 0}, LOWER[7] = {0, 0, 1, 2, 1, 0, 0};

static double follow(Farm f, const Rule& rule, vector<uint8_t>* plan) {
    for (int phase = 0; f.turn < TURNS; f.work()) {
        while (phase < 6 && f.turn >= rule.end[phase]) phase++;
        int m = UPPER[phase] * LANES;
        if (f.price[m] > f.apples) m = LOWER[phase] * LANES;
        if (f.price[m] > f.apples) continue;
        if (plan) plan->push_back(uint8_t(m));
        f.buy(m);
    }
    return f.apples;
}

// Moves one end of a phase, or all from one on, by 16, 8 and 4 turns. Returns the apples in the end.
static double tune(const Farm& f, Rule& rule) {
    double best = follow(f, rule, nullptr);
    for (int step = 16; step >= 4; step /= 2) {
        bool better = true;
        for (int round = 0; round < 3 && better; round++) {
            better = false;
            for (int choice = 0; choice < 24; choice++) {
                int k = choice / 4, last = choice & 1 ? 5 : k, shift = choice & 2 ? step : -step;
                Rule other = rule;
                for (int z = k; z <= last; z++) other.end[z] += shift;
                for (int z = 0; z < k; z++) other.end[z] = min(other.end[z], other.end[k]);
                for (int z = k + 1; z < 6; z++) other.end[z] = max(other.end[z], other.end[k]);
                double apples = follow(f, other, nullptr);
                if (apples > best) best = apples, rule = other, better = true;
            }
        }
    }
    return best;
}

struct Start {
    double value;      // log2 of the apples in the end
    vector<int> plan;  // machines as the statement numbers them
    int main, helper, second;
};
static vector<Start> starts;
static vector<int> easiest;  // kinds, those with cheap levels 0 and 1 first

// Adds the start of a main kind and up to two helpers (the main kind itself: none) that turns to the main
// chain at turn `until`, or takes it in place of a worse one of the same kinds. Until then the beam wants the
// most apples `beyond` turns later. Late on a slow machine it does nothing.
static void attempt(int main, int helper, int second, int until, int beyond, int width) {
    if (seconds() > LIMIT / 2) return;
    bool helped = helper != main, twice = second != main;
    vector<int> kinds{main};
    if (helped) kinds.push_back(helper);
    if (twice) kinds.push_back(second);
    for (int j : easiest)
        if (j != main && j != helper && j != second) kinds.push_back(j);
    choose_lanes(kinds);
    uint32_t allowed = 0;
    for (int m = 0; m < MACHINES; m++)
        if (m < LANES || m >= FLAT || (helped && m % LANES == 1) || (twice && m % LANES == 2))
            allowed |= 1u << m;
    vector<int> ends = grow(width, allowed, until, until + beyond);
    if (ends.empty()) return;
    const Farm& f = nodes[ends[0]].farm;
    if ((helped && f.power[1][1] == 0) || (twice && f.power[1][2] == 0)) return;  // found with fewer helpers
    int left = TURNS - f.turn;
    Rule rule{{f.turn, f.turn + left * 15 / 100, f.turn + left * 30 / 100, f.turn + left * 56 / 100,
               f.turn + left * 64 / 100, f.turn + left * 72 / 100}};
    Start start{log2(tune(f, rule)), {}, main, helper, second};
    auto same = find_if(starts.begin(), starts.end(), [&](const Start& s) {
        return s.main == main && minmax(s.helper, s.second) == minmax(helper, second);
    });
    if (same != starts.end() && same->value >= start.value) return;
    for (int k = ends[0]; nodes[k].before >= 0; k = nodes[k].before)
        start.plan.push_back(named[nodes[k].machine]);
    reverse(start.plan.begin(), start.plan.end());
    vector<uint8_t> rest;
    follow(f, rule, &rest);
    for (int m : rest) start.plan.push_back(named[m]);
    if (same != starts.end())
        *same = start;
    else
        starts.push_back(start);
}

static void sort_starts() {
    sort(starts.begin(), starts.end(), [](const Start& a, const Start& b) { return a.value > b.value; });
}

static void find_starts() {
    // all pairs, narrowly
    for (int main = 0; main < KINDS; main++)
        for (int helper = 0; helper < KINDS; helper++)
            for (int until = 30; until <= 190; until += 20) attempt(main, helper, main, until, 30, 3);
    sort_starts();
    // the three best main kinds with every helper, more widely
    vector<int> mains;
    for (auto& each : starts)
        if (find(mains.begin(), mains.end(), each.main) == mains.end()) mains.push_back(each.main);
    if (mains.size() > 3) mains.resize(3);
    for (int main : mains)
        for (int helper = 0; helper < KINDS; helper++)
            for (int until = 30; until <= 190; until += 20)
                for (int beyond : {20, 60}) attempt(main, helper, main, until, beyond, 10);
    sort_starts();
    // second helpers beside the four best pairs
    int pairs = 0;
    for (auto each : vector<Start>(starts)) {
        if (each.helper == each.main || pairs++ >= 4) continue;
        for (int second = 0; second < KINDS; second++)
            if (second != each.main && second != each.helper)
                for (int until = 50; until <= 190; until += 20)
                    attempt(each.main, each.helper, second, until, 40, 6);
    }
    sort_starts();
}

// ---- annealing -------------------------------------------------------------------------------------

static const int EVERY = 8, LONGEST = 528;
static Farm kept[LONGEST / EVERY + 2], fresh[LONGEST / EVERY + 2];  // before every EVERY-th entry of a plan
static uint8_t current[LONGEST], trial[LONGEST], top_plan[LONGEST];

// Runs the trial plan from entry `from` on, which must not lie behind the current plan; snapshots go to
// `fresh`. Returns the apples in the end; `used` is the number of entries bought.
static double carry_out(const uint8_t* plan, int length, int from, int& used) {
    int k = from / EVERY * EVERY;
    Farm f = kept[from / EVERY];
    for (; k < length && f.turn < TURNS; k++) {
        if (k % EVERY == 0) fresh[k / EVERY] = f;
        int m = plan[k];
        while (f.apples < f.price[m] && f.turn < TURNS) f.work();
        if (f.turn >= TURNS) break;
        f.buy(m);
        f.work();
    }
    used = k;
    return worth(f, TURNS - f.turn);
}

// Distances of entries that a move brings together: half of them short, by a logarithmic law, half even.
static int hops[1024];
static void fill_hops() {
    for (int q = 0; q < 1024; q++) {
        double u = (q / 2 + 0.5) / 512;
        double d = u < 0.5 ? pow(41, 2 * u) : 1 + (u - 0.5) * 80;
        hops[q] = (q & 1 ? 1 : -1) * max(1, int(d));
    }
}
static inline int hop() { return hops[random_bits() & 1023]; }
static inline int near_to(int i, int length) { return min(length - 1, max(0, i + hop())); }
static inline int some_machine(int i, int length) {
    return random_bits() & 3 ? current[near_to(i, length)] : below(MACHINES);
}

// Writes a neighbour of the current plan to `trial`; `from` becomes an entry before which they agree.
// Returns its length, or 0 when the move is not possible.
static int propose(int length, int& from) {
    int i = below(length), kind = below(100);
    if (coin()) i = below(i + 1);  // early purchases decide more, and their order is harder to find
    from = i;
    if (kind < 18) {
        // one of two neighbouring runs takes from the other
        int size = 1 + (coin() ? 0 : below(4));
        while (i + 1 < length && current[i] == current[i + 1]) i++;
        if (i + 1 >= length) return 0;
        memcpy(trial, current, length);
        if (coin()) {
            from = max(0, i - size + 1);
            memset(trial + from, current[i + 1], i + 1 - from);
        } else {
            from = i + 1;
            memset(trial + from, current[i], min(length, from + size) - from);
        }
        return length;
    }
    if (kind < 40) {
        // some equal entries move elsewhere
        int size = 1;
        while (i + size < length && current[i + size] == current[i] && size < 6 && coin()) size++;
        int to = i + hop();
        if (to < 0 || to + size > length) return 0;
        memcpy(trial, current, length);
        if (to < i)
            rotate(trial + to, trial + i, trial + i + size);
        else
            rotate(trial + i, trial + i + size, trial + to + size);
        from = min(i, to);
        return length;
    }
    if (kind < 60) {
        // other machines in place of some
        int size = 1 + (random_bits() & 3 ? 0 : below(5));
        memcpy(trial, current, length);
        memset(trial + i, some_machine(i, length), min(size, length - i));
        return length;
    }
    if (kind < 80) {
        // one more
        if (length + 1 >= LONGEST - EVERY) return 0;
        memcpy(trial, current, i);
        trial[i] = uint8_t(some_machine(i, length));
        memcpy(trial + i + 1, current + i, length - i);
        return length + 1;
    }
    if (kind < 90) {
        // some fewer
        int size = 1 + (coin() ? 0 : below(3));
        if (i + size > length || length - size < 2) return 0;
        memcpy(trial, current, i);
        memcpy(trial + i, current + i + size, length - i - size);
        return length - size;
    }
    // two entries change places
    int j = near_to(i, length);
    memcpy(trial, current, length);
    swap(trial[i], trial[j]);
    from = min(i, j);
    return length;
}

// Anneals `current` of that length until a time, from the temperature HOT to `cold`.
// Leaves the best plan in `top_plan` and returns its length.
static int anneal(int length, double until, double cold) {
    int used;
    kept[0].begin();
    double score = log2(carry_out(current, length, 0, used)), best = score;
    memcpy(kept, fresh, sizeof kept);
    length = used;
    int best_length = length;
    memcpy(top_plan, current, length);
    double start = seconds(), temperature = HOT;
    for (int step = 0; length > 1; step++) {
        if (step % 64 == 0) {
            double now = seconds();
            if (now >= until) break;
            temperature = HOT * pow(cold / HOT, (now - start) / (until - start));
        }
        int from, size = propose(length, from);
        if (!size) continue;
        while (from < min(length, size) && trial[from] == current[from]) from++;
        if (from == length && size == length) continue;
        double next = log2(carry_out(trial, size, min(from, length - 1), used));
        if (next - score < temperature * log(unit())) continue;
        score = next;
        length = used;
        memcpy(current, trial, length);
        int first = min(from, length) / EVERY, last = length / EVERY;
        memcpy(kept + first, fresh + first, sizeof(Farm) * (last - first + 1));
        if (score > best) best = score, best_length = length, memcpy(top_plan, current, length);
    }
    return best_length;
}

// Plays a plan in integers. Returns the apples in the end; `actions` gets a machine, or -1, for each turn.
static long long replay(const vector<int>& plan, vector<int>* actions) {
    long long apples = 1, count[ALL], power[ALL] = {};
    for (auto& each : count) each = 1;
    size_t next = 0;
    for (int t = 0; t < TURNS; t++) {
        int action = -1;
        if (next < plan.size()) {
            int m = plan[next];
            long long price = cost[m] * (power[m] + 1);
            if (price <= apples) apples -= price, power[m]++, action = m, next++;
        }
        if (actions) actions->push_back(action);
        for (int j = 0; j < KINDS; j++) apples += capacity[j] * count[j] * power[j];
        for (int m = KINDS; m < ALL; m++) count[m - KINDS] += count[m] * power[m];
    }
    return apples;
}

// Anneals a start; its lanes are the kinds of which it buys most above level 0, then the easiest.
static void improve(Start& start, double until, double cold) {
    int uses[KINDS] = {}, code[ALL];
    for (int m : start.plan) uses[m % KINDS] += m >= KINDS;
    vector<int> kinds = easiest;
    stable_sort(kinds.begin(), kinds.end(), [&](int a, int b) { return uses[a] > uses[b]; });
    choose_lanes(kinds);
    fill(code, code + ALL, -1);
    for (int m = 0; m < MACHINES; m++) code[named[m]] = m;
    int length = 0;
    for (int m : start.plan)
        if (code[m] >= 0) current[length++] = uint8_t(code[m]);
    length = anneal(length, until, cold);
    vector<int> plan;
    for (int k = 0; k < length; k++) plan.push_back(named[top_plan[k]]);
    double value = log2(double(replay(plan, nullptr)));
    if (value > start.value) start.value = value, start.plan = plan;
}

int main() {
    int kinds, levels, turns, apples;
    if (scanf("%d %d %d %d", &kinds, &levels, &turns, &apples) != 4) return 1;
    for (auto& each : capacity)
        if (scanf("%lld", &each) != 1) return 1;
    for (auto& each : cost)
        if (scanf("%lld", &each) != 1) return 1;
    for (auto& each : hash_of) each = (uint64_t(random_bits()) << 32) | random_bits();
    fill_hops();
    for (int j = 0; j < KINDS; j++) easiest.push_back(j);
    auto hardness = [](int j) {
        return double(cost[j]) * double(cost[KINDS + j]) / double(capacity[j]) / double(capacity[j]);
    };
    sort(easiest.begin(), easiest.end(), [&](int a, int b) { return hardness(a) < hardness(b); });

    find_starts();
    if (starts.empty()) starts.push_back({0, {}, 0, 0, 0});
    if (starts.size() > 8) starts.resize(8);
    double slice = 0.03, behind = 5;  // seconds, and log2 of the apples
    for (int round = 0;; round++) {
        while (starts.back().value < starts[0].value - behind) starts.pop_back();
        if (starts.size() == 1) break;
        for (auto& each : starts) improve(each, min(seconds() + slice, LIMIT), 4 * COLD);
        sort_starts();
        starts.resize((starts.size() + 1) / 2);
        slice *= 2;
        behind = round ? behind * 0.4 : 0.8;
    }
    improve(starts[0], LIMIT, COLD);

    vector<int> actions;
    long long final_apples = replay(starts[0].plan, &actions);
    for (int action : actions) {
        if (action < 0)
            puts("-1");
        else
            printf("%d %d\n", action / KINDS, action % KINDS);
    }
    fprintf(stderr, "score %.0f\n", 1e5 * log2(double(final_apples)));
}
