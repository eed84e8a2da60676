// Simulated annealing over simple rectilinear polygons on grids, from coarse to fine.
//
// A polygon is a ring of edges h[0], v[0], h[1], v[1], ...: h[k] is the y of a horizontal edge that runs from
// x = v[k-1] to v[k], v[k] the x of an upright one from y = h[k] to h[k+1]. A move shifts a whole edge, or a
// part of one, which adds or takes away one rectangle. Its catch is four look-ups in the prefix sums; whether
// the new edges would touch others is one vectorised pass over both arrays.
//
// What is annealed is the catch less a price on length. Without it the walls' many small bends use up the
// length that is allowed while it is still warm, and none is left for nets to reach a second shoal. The price
// falls with time to almost nothing, so that the limit on length binds in the end, whatever a length is worth
// in this sea. Several anneals on a coarse grid start from the whole sea and carve (from a small net, far
// shoals would have to be found by long arms that pay only at their end); the best goes on on finer grids.
#pragma GCC optimize("O3")
#pragma GCC target("avx2")
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>
using namespace std;

static const int COARSE = 48, MIDDLE = 4 * COARSE, FINE = 4 * MIDDLE;  // cells a side; each divides the next
static const int SEA = 100000, MAXLEN = 400000, MOST = 490;
static const double LIMIT = 1.92;                        // seconds of processor time
static const double COARSE_END = 0.4, MIDDLE_END = 0.65;  // shares of it
static const int STARTS = 24;                            // anneals on the coarse grid

// An anneal: temperature (geometric), price of a unit of length (linear), reach of moves in cells (geometric),
// each at its beginning and its end.
struct Schedule {
    double hot, cold, price, last_price, reach, last_reach;
};
static const Schedule SCHEDULES[3] = {
    {10, 1, 0.003, 0.0005, 24, 6},
    {2, 0.3, 0, 0, 16, 8},
    {0.3, 0.1, 0, 0, 16, 8},
};

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

static int G;                          // cells a side of the grid in use
static int line[2][FINE + 1];          // coordinates of its lines (0: y, 1: x); no fish lies on one
static int16_t sums[FINE + 1][FINE + 1];  // mackerels minus sardines in cells [0, x) x [0, y)

struct Ring {
    int n;  // edges of each direction
    int length;
    int score;
    int16_t c[2][MOST + 8];  // c[0]: y of horizontal edges, c[1]: x of upright ones; one entry of padding
};

static Ring cur, best;

static inline int gain(int x1, int x2, int y1, int y2) {
    return sums[x2][y2] - sums[x1][y2] - sums[x2][y1] + sums[x1][y1];
}

static inline int real(int d, int a, int b) { return abs(line[d][a] - line[d][b]); }

// Edges (closed) that meet the closed box lo[d]..hi[d], d = 0 for y and 1 for x.
static inline int hits(const Ring& r, int x1, int x2, int y1, int y2) {
    int16_t count = 0;
    const int16_t *h = r.c[0], *v = r.c[1];
    const int16_t X1 = x1, X2 = x2, Y1 = y1, Y2 = y2;
    const int n = r.n;
    for (int k = 0; k < n; k++) {
        int16_t a = h[k], b = h[k + 1], x = v[k];
        int16_t lo = a < b ? a : b, hi = a < b ? b : a;
        count += int16_t((x >= X1) & (x <= X2) & (hi >= Y1) & (lo <= Y2));
    }
    // h[k+1] runs from v[k] to v[k+1]
    for (int k = 0; k < n; k++) {
        int16_t a = v[k], b = v[k + 1], y = h[k + 1];
        int16_t lo = a < b ? a : b, hi = a < b ? b : a;
        count += int16_t((y >= Y1) & (y <= Y2) & (hi >= X1) & (lo <= X2));
    }
    return count;
}

static inline void pad(Ring& r) {
    r.c[0][r.n] = r.c[0][0];
    r.c[1][r.n] = r.c[1][0];
}

// Edge number e of the ring: e = 2k for h[k], 2k + 1 for v[k].
static inline int wrap(const Ring& r, int e) {
    int m = 2 * r.n;
    return e < 0 ? e + m : e >= m ? e - m : e;
}
static inline int at(const Ring& r, int e) {
    e = wrap(r, e);
    return r.c[e & 1][e >> 1];
}

// Whether edge e meets the box whose range is p1..p2 across direction d (d = e's own kind of coordinate) and
// q1..q2 along.
static inline bool meets(const Ring& r, int e, int d, int p1, int p2, int q1, int q2) {
    e = wrap(r, e);
    int at_e = r.c[e & 1][e >> 1], a = at(r, e - 1), b = at(r, e + 1);
    if (a > b) swap(a, b);
    if ((e & 1) == d) return at_e >= p1 && at_e <= p2 && b >= q1 && a <= q2;
    return at_e >= q1 && at_e <= q2 && b >= p1 && a <= p2;
}

static void erase_edges(Ring& r, int e, int count) {
    // removes edges e .. e + count - 1, count even
    static int16_t flat[2 * MOST + 16];
    int m = 2 * r.n, left = 0;
    // walk from the edge after the removed ones; keep the parity of the first
    int start = wrap(r, e + count);
    for (int k = 0; k < m - count; k++) flat[left++] = at(r, wrap(r, start + k));
    int shift = start & 1;  // flat[0] is an edge of kind `shift`
    r.n = (m - count) / 2;
    for (int k = 0; k < left; k++) {
        int kind = (k + shift) & 1, index = (k + shift) >> 1;
        if (index >= r.n) index -= r.n;
        r.c[kind][index] = flat[k];
    }
    pad(r);
}

static void insert_after(Ring& r, int e, const int* values, int count) {
    // inserts `count` (even) edges after edge e
    int kind = e & 1, k = e >> 1, half = count / 2;
    // values alternate: kind^1, kind, kind^1, ...
    int16_t *same = r.c[kind], *other = r.c[kind ^ 1];
    int other_at = kind == 0 ? k : k + 1;  // place of the first new edge of the other kind
    memmove(same + k + 1 + half, same + k + 1, sizeof(int16_t) * (r.n - k - 1));
    memmove(other + other_at + half, other + other_at, sizeof(int16_t) * (r.n - other_at));
    for (int q = 0; q < half; q++) {
        other[other_at + q] = values[2 * q];
        same[k + 1 + q] = values[2 * q + 1];
    }
    r.n += half;
    pad(r);
}

static double threshold;  // least change of catch less price that is accepted
static double price;      // of a unit of length, in fish

static inline int signed_gain(int d, int dir, int p, int q, int a, int b) {
    // moving an edge of kind d from p to q between a and b (unordered); counter-clockwise ring
    int lo = min(p, q), hi = max(p, q), s = min(a, b), t = max(a, b);
    int value = d ? gain(lo, hi, s, t) : gain(s, t, lo, hi);
    int sign = (d ? dir : -dir) * (q > p ? 1 : -1);
    return sign > 0 ? value : -value;
}

static inline bool blocked(const Ring& r, int d, int p1, int p2, int q1, int q2, const int* skip, int skipped) {
    int found = d ? hits(r, p1, p2, q1, q2) : hits(r, q1, q2, p1, p2);
    if (found == 0) return false;
    for (int k = 0; k < skipped; k++) found -= meets(r, skip[k], d, p1, p2, q1, q2);
    return found > 0;
}

static void accept(int change, int longer) {
    cur.score += change;
    cur.length += longer;
    if (cur.score > best.score) best = cur;
}

// Shift edge e to q, merging what becomes straight.
static bool shift_edge(int e, int q) {
    int d = e & 1, p = at(cur, e);
    if (p == q) return false;
    int a = at(cur, e - 1), b = at(cur, e + 1), before = at(cur, e - 2), after = at(cur, e + 2);
    // never past the neighbours' other ends
    if ((q > p) ? (before > p && q > before) : (before < p && q < before)) return false;
    if ((q > p) ? (after > p && q > after) : (after < p && q < after)) return false;
    int dir = b > a ? 1 : -1;
    bool merge1 = q == before, merge2 = q == after;
    if ((merge1 || merge2) && cur.n <= 3) return false;
    if (merge1 && (a - at(cur, e - 3)) * dir <= 0) return false;
    if (merge2 && (at(cur, e + 3) - b) * dir <= 0) return false;
    if (merge1 && merge2 && cur.n <= 4) return false;
    int longer = real(d, before, q) + real(d, after, q) - real(d, before, p) - real(d, after, p);
    if (cur.length + longer > MAXLEN) return false;
    int change = signed_gain(d, dir, p, q, a, b);
    if (change - price * longer < threshold) return false;
    int skip[5] = {e - 1, e + 1}, skipped = 2;
    if (merge1) skip[skipped++] = e - 2;
    if (merge2) skip[skipped++] = e + 2;
    int p1 = q > p ? p + 1 : q, p2 = q > p ? q : p - 1;
    if (blocked(cur, d, p1, p2, min(a, b), max(a, b), skip, skipped)) return false;
    cur.c[d][e >> 1] = q;
    pad(cur);
    if (merge1 && merge2)
        erase_edges(cur, wrap(cur, e - 1), 4);
    else if (merge1)
        erase_edges(cur, wrap(cur, e - 1), 2);
    else if (merge2)
        erase_edges(cur, e, 2);
    accept(change, longer);
    return true;
}

// Shift only the part s..t (in the edge's direction) of edge e to q.
static bool shift_part(int e, int q, int s, int t) {
    int d = e & 1, p = at(cur, e);
    int a = at(cur, e - 1), b = at(cur, e + 1);
    int dir = b > a ? 1 : -1;
    if ((s - a) * dir < 0 || (b - t) * dir < 0 || (t - s) * dir <= 0) return false;
    bool first = s == a, last = t == b;
    if (first && last) return shift_edge(e, q);
    if (cur.n + 2 >= MOST) return false;
    int longer, skip[3] = {}, skipped = 0;
    if (first || last) {
        int next = first ? at(cur, e - 2) : at(cur, e + 2);
        // strictly before the neighbour's other end
        if ((q > p) ? (next > p && q >= next) : (next < p && q <= next)) return false;
        longer = real(d, next, q) - real(d, next, p) + real(d, p, q);
        skip[skipped++] = first ? e - 1 : e + 1;
    } else {
        longer = 2 * real(d, p, q);
    }
    if (cur.length + longer > MAXLEN) return false;
    int change = signed_gain(d, dir, p, q, s, t);
    if (change - price * longer < threshold) return false;
    int p1 = q > p ? p + 1 : q, p2 = q > p ? q : p - 1;
    if (blocked(cur, d, p1, p2, min(s, t), max(s, t), skip, skipped)) return false;
    if (first) {
        cur.c[d][e >> 1] = q;
        int values[2] = {t, p};
        insert_after(cur, e, values, 2);
    } else if (last) {
        int values[2] = {s, q};
        insert_after(cur, e, values, 2);
    } else {
        int values[4] = {s, q, t, p};
        insert_after(cur, e, values, 4);
    }
    accept(change, longer);
    return true;
}

static float logs[4096];           // of (k + 0.5) / 4096
static float log_sizes[FINE + 1];  // of k

// 1 to most, smaller ones more often: the logarithm is uniform.
static inline int random_size(float log_most) { return 1 + int(expf(log_most * float(unit())) - 0.5f); }

static void anneal(double end, const Schedule& plan) {
    const float log_two = log(2.0);
    float log_reach = 0;
    double reach = 1, temperature = 1, start = seconds();
    for (uint32_t turn = 0;; turn++) {
        if ((turn & 511) == 0) {
            double now = seconds();
            if (now >= end) break;
            double part = (now - start) / (end - start);
            temperature = plan.hot * pow(plan.cold / plan.hot, part);
            price = plan.price + (plan.last_price - plan.price) * part;
            reach = plan.reach * pow(plan.last_reach / plan.reach, part);
            log_reach = log(reach);
        }
        threshold = temperature * logs[rnd() & 4095];
        int e = below(2 * cur.n), p = at(cur, e);
        int step = random_size(log_reach), q = rnd() & 1 ? p + step : p - step;
        if (q < 0 || q > G) continue;
        int a = at(cur, e - 1), b = at(cur, e + 1), dir = b > a ? 1 : -1, span = abs(b - a);
        uint32_t kind = rnd() & 15;
        if (kind < 7) {
            shift_edge(e, q);
        } else {
            if (span < 2) continue;
            int size = min(random_size(min(log_sizes[span], log_reach + log_two)), span);
            int offset;
            if (kind < 10)
                offset = 0;
            else if (kind < 13)
                offset = span - size;
            else {
                if (size > span - 2) continue;
                offset = 1 + below(span - size - 1);
            }
            shift_part(e, q, a + dir * offset, a + dir * (offset + size));
        }
    }
}

// A rectangle of cells x1..x2, y1..y2.
static Ring rectangle(int x1, int x2, int y1, int y2) {
    Ring r;
    r.n = 2;
    r.c[0][0] = y1, r.c[1][0] = x2, r.c[0][1] = y2, r.c[1][1] = x1;
    pad(r);
    r.score = gain(x1, x2, y1, y2);
    r.length = 2 * (real(1, x1, x2) + real(0, y1, y2));
    return r;
}

// The rectangle of the greatest catch on every second line.
static Ring best_rectangle() {
    const int step = 2;
    Ring top = rectangle(0, 1, 0, 1);
    for (int x1 = 0; x1 < G; x1 += step)
        for (int x2 = x1 + step; x2 <= G; x2 += step) {
            int least = 0, low = 0;
            for (int y = step; y <= G; y += step) {
                int value = sums[x2][y] - sums[x1][y];
                if (value - least > top.score) top = rectangle(x1, x2, low, y);
                if (value < least) least = value, low = y;
            }
        }
    return top;
}

static int fish;                   // of each kind
static vector<int> place[2];       // y and x of every fish, mackerels first
static int finest[2][FINE + 1];    // lines of the finest grid; those of the others are some of them

// Lines evenly spaced over the mackerels, each moved to a near coordinate that no fish has.
static void choose_lines() {
    for (int d = 0; d < 2; d++) {
        vector<char> used(SEA + 1, 0);
        for (int at : place[d]) used[at] = 1;
        int low = SEA, high = 0;
        for (int k = 0; k < fish; k++) low = min(low, place[d][k]), high = max(high, place[d][k]);
        low -= 100, high += 100;
        // wide enough for distinct lines, and inside the sea
        int missing = 8 * FINE - (high - low);
        if (missing > 0) low -= missing / 2, high = low + 8 * FINE;
        if (low < 0) high = min(SEA, high - low), low = 0;
        if (high > SEA) low = max(0, low - (high - SEA)), high = SEA;
        int room = (high - low) / FINE / 2;
        for (int k = 0; k <= FINE; k++) {
            int even = low + int(int64_t(high - low) * k / FINE), found = even;
            // the sea's border stays: fish on it are inside a polygon that reaches it
            for (int off = 0; off < room && even > 0 && even < SEA; off++) {
                if (even + off <= SEA && !used[even + off]) { found = even + off; break; }
                if (even - off >= 0 && !used[even - off]) { found = even - off; break; }
            }
            finest[d][k] = found;
        }
    }
}

// Change to a grid of `cells` a side, for what is scaled to it.
static void use_grid(int cells) {
    G = cells;
    for (int d = 0; d < 2; d++)
        for (int k = 0; k <= G; k++) line[d][k] = finest[d][k * (FINE / G)];
    memset(sums, 0, sizeof sums);
    for (int k = 0; k < 2 * fish; k++) {
        int x = int(upper_bound(line[1], line[1] + G + 1, min(place[1][k], SEA - 1)) - line[1]);
        int y = int(upper_bound(line[0], line[0] + G + 1, min(place[0][k], SEA - 1)) - line[0]);
        if (x < 1 || y < 1 || x > G || y > G) continue;
        sums[x][y] += k < fish ? 1 : -1;
    }
    for (int x = 1; x <= G; x++)
        for (int y = 1; y <= G; y++) sums[x][y] += sums[x - 1][y] + sums[x][y - 1] - sums[x - 1][y - 1];
}

static void refine(int cells) {
    int times = cells / G;
    for (int d = 0; d < 2; d++)
        for (int k = 0; k < best.n; k++) best.c[d][k] *= times;
    pad(best);
    use_grid(cells);
    cur = best;
}

int main() {
    if (scanf("%d", &fish) != 1) return 1;
    place[0].resize(2 * fish), place[1].resize(2 * fish);
    for (int k = 0; k < 2 * fish; k++)
        if (scanf("%d %d", &place[1][k], &place[0][k]) != 2) return 1;
    for (int k = 0; k < 4096; k++) logs[k] = log((k + 0.5) / 4096);
    for (int k = 1; k <= FINE; k++) log_sizes[k] = log(k);
    choose_lines();
    use_grid(COARSE);
    const Ring first = best_rectangle();
    Ring top = first;
    double begin = seconds();
    for (int k = 1; k <= STARTS; k++) {
        cur = rectangle(2, G - 2, 2, G - 2), best = first;
        anneal(begin + (LIMIT * COARSE_END - begin) * k / STARTS, SCHEDULES[0]);
        if (best.score > top.score) top = best;
    }
    best = top;
    refine(MIDDLE);
    anneal(LIMIT * MIDDLE_END, SCHEDULES[1]);
    refine(FINE);
    anneal(LIMIT, SCHEDULES[2]);
    printf("%d\n", 2 * best.n);
    for (int k = 0; k < best.n; k++) {
        int before = best.c[1][k ? k - 1 : best.n - 1];
        printf("%d %d\n", line[1][before], line[0][best.c[0][k]]);
        printf("%d %d\n", line[1][best.c[1][k]], line[0][best.c[0][k]]);
    }
    fprintf(stderr, "score %d, %d edges, length %d\n", best.score + 1, 2 * best.n, best.length);
}
