/* The sum of 100 (x[i+1] - x[i]^2)^2 + (1 - x[i])^2 over i < n - 1, and its gradient, in one pass. */
#include "vectors.h"

double run(long n, const double *restrict x, double *restrict gradient) {
    double value = 0.0, before = 0.0;
    V values[2] = {{0.0}, {0.0}};
    long i = 1;
    if (n > 1) {
        before = x[1] - x[0] * x[0];
        value = 100.0 * before * before + (1.0 - x[0]) * (1.0 - x[0]);
        gradient[0] = -400.0 * before * x[0] - 2.0 * (1.0 - x[0]);
    }
    for (; i + 2 * W < n; i += 2 * W)
#pragma GCC unroll 2
        for (int k = 0; k < 2; k++) {
            const double *at = x + i + k * W;
            V left = load(at - 1), a = load(at), d = load(at + 1) - a * a, e = 1.0 - a;
            values[k] += 100.0 * d * d + e * e;
            store(gradient + i + k * W, 200.0 * (a - left * left) - 400.0 * d * a - 2.0 * e);
        }
    value += sum(values[0] + values[1]);
    before = x[i] - x[i - 1] * x[i - 1];
    for (; i < n - 1; i++) {
        double d = x[i + 1] - x[i] * x[i], e = 1.0 - x[i];
        value += 100.0 * d * d + e * e;
        gradient[i] = 200.0 * before - 400.0 * d * x[i] - 2.0 * e;
        before = d;
    }
    gradient[n - 1] = 200.0 * before;
    return value;
}
