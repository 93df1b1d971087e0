/* x = 1.1 sin x, n times, and the derivative of the last x by the first: one pass, nothing is stored. */
#define _GNU_SOURCE
#include <math.h>

void run(long n, double x, double *restrict out) {
    double slope = 1.0;
    for (long k = 0; k < n; k++) {
        double s, c;
        sincos(x, &s, &c);
        x = 1.1 * s;
        slope *= 1.1 * c;
    }
    out[0] = x;
    out[1] = slope;
}
