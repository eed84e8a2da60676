// Beam search, then simulated annealing over purchase schedules.
//
// A schedule is a list of machines, each bought as soon as it can be paid. The beam goes from purchase to
// purchase: a state lies in the bucket of the turn at which it is free to act again, and is valued by the
// apples it would have a horizon later without buying more; several horizons are tried. The best schedule
// found is then annealed: machines in it are moved, replaced, inserted and removed.
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

static const int N = 10, L = 4, T = 500, M = N * L;
static double LIMIT = 1.87;
static const int STARTS = 8;
static long long A[N], C[M];

static double seconds() {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}
static uint64_t rng_state = 88172645463325252ull;
static inline uint32_t rnd() {
    rng_state ^= rng_state << 7;
    rng_state ^= rng_state >> 9;
    return uint32_t(rng_state >> 16);
}
static inline int below(int n) { return int((uint64_t(rnd()) * uint64_t(n)) >> 32); }
static inline double unit() { return (rnd() + 0.5) * (1.0 / 4294967296.0); }

// ---- beam ------------------------------------------------------------------------------------------

struct Node {
    double apples, value;
    double count[M], power[M];
    uint64_t hash;
    int last;  // index into the log of purchases, -1 at the start
};
struct Purchase {
    int before;
    int machine;
};
static vector<Purchase> purchases;
static uint64_t zobrist[M];

static inline void produce(Node& s) {
    double made = 0;
    for (int j = 0; j < N; j++) made += A[j] * s.count[j] * s.power[j];
    s.apples += made;
    for (int m = N; m < M; m++) s.count[m - N] += s.count[m] * s.power[m];
}

// Apples after `left` more turns without buying.
static double worth(const Node& s, int left) {
    double b1 = left, b2 = b1 * (left - 1) / 2, b3 = b2 * (left - 2) / 3, b4 = b3 * (left - 3) / 4;
    double total = s.apples;
    for (int j = 0; j < N; j++) {
        double p0 = A[j] * s.power[j];
        if (p0 == 0) continue;
        double p1 = s.power[j + N], p2 = s.power[j + 2 * N], p3 = s.power[j + 3 * N];
        total += p0 * (s.count[j] * b1 +
                       p1 * (s.count[j + N] * b2 + p2 * (s.count[j + 2 * N] * b3 + p3 * s.count[j + 3 * N] * b4)));
    }
    return total;
}

static double beam(double share, int extra, int width, uint64_t allowed, vector<int>& plan) {
    static const int WAIT = 24;
    vector<vector<Node>> bucket(T + 1);
    purchases.clear();
    Node root;
    memset(&root, 0, sizeof root);
    for (int m = 0; m < M; m++) root.count[m] = 1;
    root.apples = 1;
    root.last = -1;
    bucket[0].push_back(root);
    double top = -1;
    int top_last = -1;
    vector<int> order;
    for (int t = 0; t < T; t++) {
        auto& here = bucket[t];
        order.resize(here.size());
        for (size_t k = 0; k < here.size(); k++) order[k] = int(k);
        sort(order.begin(), order.end(), [&](int a, int b) { return here[a].value > here[b].value; });
        vector<uint64_t> seen;
        for (int index : order) {
            if (int(seen.size()) >= width) break;
            Node s = here[index];
            if (find(seen.begin(), seen.end(), s.hash) != seen.end()) continue;
            seen.push_back(s.hash);
            double idle = worth(s, T - t);
            if (idle > top) top = idle, top_last = s.last;
            uint64_t open = allowed;
            for (int w = 0; w < WAIT && t + w < T && open; w++) {
                for (uint64_t left = open; left; left &= left - 1) {
                    int m = __builtin_ctzll(left);
                    if (m >= N && s.power[m - N] == 0) { open &= ~(1ull << m); continue; }
                    double price = C[m] * (s.power[m] + 1);
                    if (price > s.apples) continue;
                    open &= ~(1ull << m);
                    Node next = s;
                    next.apples -= price;
                    next.power[m] += 1;
                    produce(next);
                    int then = t + w + 1, rest = T - then;
                    int horizon = int(rest * share) + extra;
                    next.value = worth(next, horizon);
                    next.hash = s.hash + zobrist[m];
                    auto& target = bucket[then];
                    if (int(target.size()) >= 6 * width) {
                        // keep the better half now and then
                        nth_element(target.begin(), target.begin() + 3 * width, target.end(),
                                    [](const Node& a, const Node& b) { return a.value > b.value; });
                        target.resize(3 * width);
                    }
                    next.last = int(purchases.size());
                    purchases.push_back({s.last, m});
                    target.push_back(next);
                }
                produce(s);
            }
        }
        vector<Node>().swap(here);
    }
    for (auto& s : bucket[T])
        if (s.apples > top) top = s.apples, top_last = s.last;
    plan.clear();
    for (int k = top_last; k >= 0; k = purchases[k].before) plan.push_back(purchases[k].machine);
    reverse(plan.begin(), plan.end());
    return top;
}

// ---- annealing -------------------------------------------------------------------------------------

static const int K = 8, EVERY = 8, LONGEST = 520;
struct alignas(32) Farm {
    double count[L * K], power[L * K];
    double apples;
    int turn;
};
static double value_of[K], price_of[L * K];
static Farm kept[LONGEST / EVERY + 2], fresh[LONGEST / EVERY + 2];

static inline void work(Farm& f) {
    double made = 0;
    for (int j = 0; j < K; j++) made += value_of[j] * f.count[j] * f.power[j];
    f.apples += made;
    for (int m = K; m < L * K; m++) f.count[m - K] += f.count[m] * f.power[m];
    f.turn++;
}

static double finish(const Farm& f, int left) {
    double b1 = left, b2 = b1 * (left - 1) / 2, b3 = b2 * (left - 2) / 3, b4 = b3 * (left - 3) / 4;
    double total = f.apples;
    for (int j = 0; j < K; j++)
        total += value_of[j] * f.power[j] *
                 (f.count[j] * b1 +
                  f.power[K + j] *
                      (f.count[K + j] * b2 +
                       f.power[2 * K + j] * (f.count[2 * K + j] * b3 + f.power[3 * K + j] * f.count[3 * K + j] * b4)));
    return total;
}

// Runs a schedule from entry `from` on; snapshots before every EVERY-th entry go to `fresh`.
// Returns the apples in the end; `used` is the number of entries bought.
static double carry_out(const int* plan, int n, int from, int& used) {
    int start = from / EVERY;
    Farm f = kept[start];
    int k = start * EVERY;
    for (; k < n && f.turn < T; k++) {
        if (k % EVERY == 0) fresh[k / EVERY] = f;
        int m = plan[k];
        double& p = f.power[m];
        double price = price_of[m] * (p + 1);
        while (f.apples < price && f.turn < T) work(f);
        if (f.turn >= T) break;
        f.apples -= price;
        p += 1;
        work(f);
    }
    used = k;
    return finish(f, T - f.turn);
}

static int current[LONGEST], trial[LONGEST], top_plan[LONGEST];

static int anneal(int n, double start, double end, double hot, double cold) {
    int used;
    memset(&kept[0], 0, sizeof(Farm));
    for (auto& each : kept[0].count) each = 1;
    kept[0].apples = 1;
    double score = log2(carry_out(current, n, 0, used));
    memcpy(kept, fresh, sizeof kept);
    n = used;
    double best = score;
    int best_n = n;
    memcpy(top_plan, current, sizeof current);
    double temperature = hot;
    int tries = 0;
    for (;; tries++) {
        if ((tries & 63) == 0) {
            double now = seconds();
            if (now > end) break;
            temperature = hot * pow(cold / hot, (now - start) / (end - start));
        }
        int i = below(n), m = n, from = i;
        uint32_t kind = below(100);
        if (kind < 18) {
            // let one of two neighbouring runs take from the other
            int size = 1 + ((rnd() & 1) ? 0 : below(4));
            while (i + 1 < n && current[i] == current[i + 1]) i++;
            if (i + 1 >= n) continue;
            memcpy(trial, current, sizeof(int) * n);
            if (rnd() & 1) {
                from = max(0, i - size + 1);
                for (int q = from; q <= i; q++) trial[q] = current[i + 1];
            } else {
                from = i + 1;
                for (int q = i + 1; q < min(n, i + 1 + size); q++) trial[q] = current[i];
            }
        } else if (kind < 40) {
            // move a run of equal machines elsewhere nearby
            int size = 1;
            while (i + size < n && current[i + size] == current[i] && size < 6 && (rnd() & 1)) size++;
            int to = i + below(61) - 30;
            if (to < 0 || to + size > n || to == i) continue;
            memcpy(trial, current, sizeof(int) * n);
            if (to < i)
                rotate(trial + to, trial + i, trial + i + size);
            else
                rotate(trial + i, trial + i + size, trial + to + size);
            from = min(i, to);
        } else if (kind < 60) {
            // replace by what is bought nearby, or by anything
            int other = (rnd() & 3) ? current[min(n - 1, max(0, i + below(41) - 20))] : below(L * K);
            if (other == current[i]) continue;
            memcpy(trial, current, sizeof(int) * n);
            int size = 1 + ((rnd() & 3) ? 0 : below(5));
            for (int q = i; q < min(n, i + size); q++) trial[q] = other;
        } else if (kind < 80) {
            if (n + 1 >= LONGEST - EVERY) continue;
            int other = (rnd() & 3) ? current[min(n - 1, max(0, i + below(41) - 20))] : below(L * K);
            memcpy(trial, current, sizeof(int) * i);
            trial[i] = other;
            memcpy(trial + i + 1, current + i, sizeof(int) * (n - i));
            m = n + 1;
        } else if (kind < 90) {
            int size = 1 + ((rnd() & 1) ? 0 : below(3));
            if (n - size < 2 || i + size > n) continue;
            memcpy(trial, current, sizeof(int) * i);
            memcpy(trial + i, current + i + size, sizeof(int) * (n - i - size));
            m = n - size;
        } else {
            // exchange two entries
            int j = min(n - 1, max(0, i + below(81) - 40));
            if (current[i] == current[j]) continue;
            memcpy(trial, current, sizeof(int) * n);
            swap(trial[i], trial[j]);
            from = min(i, j);
        }
        double now = log2(carry_out(trial, m, from, used));
        if (now - score >= temperature * log(unit())) {
            score = now;
            n = used;
            memcpy(current, trial, sizeof(int) * n);
            int first = from / EVERY, last = n / EVERY;
            memcpy(kept + first, fresh + first, sizeof(Farm) * (last - first + 1));
            if (score > best) best = score, best_n = n, memcpy(top_plan, current, sizeof(int) * n);
        }
    }
    return best_n;
}

// ---- all in integers -------------------------------------------------------------------------------

static long long replay(const vector<int>& plan, vector<int>* actions) {
    long long apples = 1, count[M], power[M] = {};
    for (auto& each : count) each = 1;
    size_t next = 0;
    for (int t = 0; t < T; t++) {
        int action = -1;
        if (next < plan.size()) {
            int m = plan[next];
            long long price = C[m] * (power[m] + 1);
            if (price <= apples) apples -= price, power[m]++, action = m, next++;
        }
        if (actions) actions->push_back(action);
        for (int j = 0; j < N; j++) apples += A[j] * count[j] * power[j];
        for (int m = N; m < M; m++) count[m - N] += count[m] * power[m];
    }
    return apples;
}

// Anneals a plan over the kinds it uses and the cheapest others; the better of it and the result.
static pair<double, vector<int>> improve(const vector<int>& start, double from, double till, double hot, double cold) {
    vector<int> kinds;
    auto add = [&](int j) {
        if (int(kinds.size()) < K && find(kinds.begin(), kinds.end(), j) == kinds.end()) kinds.push_back(j);
    };
    vector<int> use(N);
    for (int m : start) use[m % N] += 1 + 100 * (m >= N);
    vector<int> order(N);
    for (int j = 0; j < N; j++) order[j] = j;
    sort(order.begin(), order.end(), [&](int a, int b) { return use[a] > use[b]; });
    for (int j : order)
        if (use[j]) add(j);
    vector<pair<double, int>> rest;
    for (int j = 0; j < N; j++) {
        double cost = 0;
        for (int i = 0; i < L; i++) cost += log(double(C[i * N + j]) / A[j]);
        rest.push_back({cost, j});
    }
    sort(rest.begin(), rest.end());
    for (auto& each : rest) add(each.second);
    int place[N];
    fill(place, place + N, -1);
    for (int j = 0; j < K; j++) {
        place[kinds[j]] = j;
        value_of[j] = double(A[kinds[j]]);
        for (int i = 0; i < L; i++) price_of[i * K + j] = double(C[i * N + kinds[j]]);
    }
    int length = 0;
    for (int m : start)
        if (place[m % N] >= 0) current[length++] = m / N * K + place[m % N];
    length = anneal(length, from, till, hot, cold);
    vector<int> plan;
    for (int q = 0; q < length; q++) plan.push_back(top_plan[q] / K * N + kinds[top_plan[q] % K]);
    double before = log2(double(replay(start, nullptr))), after = log2(double(replay(plan, nullptr)));
    return before > after ? make_pair(before, start) : make_pair(after, plan);
}

int main(int argc, char** argv) {
    int n, l, t, k;
    if (scanf("%d %d %d %d", &n, &l, &t, &k) != 4) return 1;
    for (auto& each : A)
        if (scanf("%lld", &each) != 1) return 1;
    for (auto& each : C)
        if (scanf("%lld", &each) != 1) return 1;
    double hot = argc > 1 ? atof(argv[1]) : 0.03, cold = argc > 2 ? atof(argv[2]) : 0.0001;
    int width = argc > 3 ? atoi(argv[3]) : 12;
    for (auto& each : zobrist) each = (uint64_t(rnd()) << 32) | rnd();
    // one start for each kind that could carry the upper levels, and one for all kinds together
    vector<pair<double, vector<int>>> starts;
    for (int j = -1; j < N; j++) {
        uint64_t allowed = (1ull << N) - 1;
        for (int m = N; m < M; m++)
            if (j < 0 || m % N == j) allowed |= 1ull << m;
        vector<int> plan;
        double value = beam(2.0, 80, width, allowed, plan);
        starts.push_back({value, plan});
    }
    sort(starts.rbegin(), starts.rend());
    starts.resize(STARTS);
    // half the starts fall out after each round
    while (true) {
        double began = seconds();
        double share = starts.size() > 1 ? 0.13 * LIMIT : LIMIT - began;
        for (size_t k = 0; k < starts.size(); k++) {
            double from = began + share * double(k) / double(starts.size());
            double till = began + share * double(k + 1) / double(starts.size());
            bool only = starts.size() == 1;
            starts[k] = improve(starts[k].second, from, till, only ? hot : 0.5 * hot, only ? cold : 2 * cold);
        }
        sort(starts.rbegin(), starts.rend());
        if (starts.size() == 1) break;
        starts.resize(starts.size() / 2);
    }
    vector<int> actions;
    long long apples = replay(starts[0].second, &actions);
    for (int action : actions) {
        if (action < 0)
            puts("-1");
        else
            printf("%d %d\n", action / N, action % N);
    }
    fprintf(stderr, "score %.0f\n", 1e5 * log2(double(apples)));
}
