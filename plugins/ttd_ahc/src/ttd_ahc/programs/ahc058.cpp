// Greedy: strengthen the machine that pays most, by the apples it will have made at the end, per apple.
#include <iostream>
#include <vector>
using namespace std;

int main() {
    int n, levels, turns;
    long long apples;
    cin >> n >> levels >> turns >> apples;
    vector<long long> a(n);
    for (auto& each : a) cin >> each;
    vector<vector<long long>> cost(levels, vector<long long>(n)), count(levels, vector<long long>(n, 1)),
        power(levels, vector<long long>(n, 0));
    for (auto& row : cost)
        for (auto& each : row) cin >> each;
    for (int t = 0; t < turns; t++) {
        double best = 1.0;
        int level = -1, kind = -1, left = turns - t;
        for (int j = 0; j < n; j++) {
            double worth = a[j] * (double)left;
            for (int i = 0; i < levels; i++) {
                long long price = cost[i][j] * (power[i][j] + 1);
                double gain = worth * count[i][j] / price;
                if (price <= apples && gain > best) best = gain, level = i, kind = j;
                worth *= (double)power[i][j] * (left - 1) / (i + 2);
            }
        }
        if (level < 0) {
            cout << "-1\n";
        } else {
            cout << level << " " << kind << "\n";
            apples -= cost[level][kind] * ++power[level][kind];
        }
        for (int j = 0; j < n; j++) apples += a[j] * count[0][j] * power[0][j];
        for (int i = 1; i < levels; i++)
            for (int j = 0; j < n; j++) count[i - 1][j] += count[i][j] * power[i][j];
    }
}
