// The best rectangle along lines of a coarse grid, by sums over it.
#include <iostream>
#include <vector>
using namespace std;

const int GRID = 100, CELL = 1000;

int main() {
    int n;
    cin >> n;
    vector<vector<int>> gain(GRID, vector<int>(GRID, 0));
    for (int k = 0; k < 2 * n; k++) {
        int x, y;
        cin >> x >> y;
        gain[min(x / CELL, GRID - 1)][min(y / CELL, GRID - 1)] += k < n ? 1 : -1;
    }
    int best = -1, left = 0, right = 0, low = 0, high = 0;
    for (int a = 0; a < GRID; a++) {
        vector<int> sum(GRID, 0);
        for (int b = a; b < GRID; b++) {
            int total = 0, start = 0;
            for (int y = 0; y < GRID; y++) {
                sum[y] += gain[b][y];
                if (total <= 0) total = 0, start = y;
                total += sum[y];
                if (total > best) best = total, left = a, right = b + 1, low = start, high = y + 1;
            }
        }
    }
    int x1 = left * CELL, x2 = right * CELL - 1, y1 = low * CELL, y2 = high * CELL - 1;
    cout << "4\n" << x1 << " " << y1 << "\n" << x2 << " " << y1 << "\n";
    cout << x2 << " " << y2 << "\n" << x1 << " " << y2 << "\n";
}
