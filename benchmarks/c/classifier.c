/* A network M-H-C with ReLUs and softmax cross-entropy, and its gradient, on a batch of 100.

   The parameters and the gradient are, layer by layer, the matrix of weights and the biases; the labels are 0 and 1.
   M, a multiple of 8, H and C are given by -D. gcc takes libmvec's exp and log where -ffast-math allows it. */
#include <math.h>
enum { BATCH = 100 };
#include "network.h"

ROWS(x, M);
ROWS(y, C);
ROWS(h, H);
ROWS(d, H);
ROWS(z, C);

/* Rows of scores become rows of slopes; returns the loss. */
static double softmax(void) {
    static double top[PITCH], total[PITCH], chosen[PITCH];
    double value = 0.0;
    for (int b = 0; b < PITCH; b++) {
        top[b] = z[b];
        total[b] = 0.0;
        chosen[b] = 0.0;
    }
    for (int c = 1; c < C; c++)
        for (int b = 0; b < PITCH; b++) top[b] = top[b] > z[c * PITCH + b] ? top[b] : z[c * PITCH + b];
    for (int c = 0; c < C; c++)
        for (int b = 0; b < PITCH; b++) {
            double score = z[c * PITCH + b] - top[b], e = exp(score);
            chosen[b] += y[c * PITCH + b] * score;
            total[b] += e;
            z[c * PITCH + b] = e;
        }
    for (int b = 0; b < PITCH; b++) chosen[b] = log(total[b]) - chosen[b];
    for (int b = 0; b < BATCH; b++) value += chosen[b];
    for (int b = 0; b < PITCH; b++) total[b] = (b < BATCH ? 1.0 / BATCH : 0.0) / total[b];
    for (int c = 0; c < C; c++)
        for (int b = 0; b < PITCH; b++) z[c * PITCH + b] = z[c * PITCH + b] * total[b] - y[c * PITCH + b] / BATCH;
    return value / BATCH;
}

double run(const double *theta, const double *samples, const double *labels, double *restrict gradient) {
    enum { BIAS1 = H * M, SECOND = BIAS1 + H, BIAS2 = SECOND + C * H };
    pack(samples, M, x);
    pack(labels, C, y);
    product(H, VECTORS, RELU, theta, M, 1, theta + BIAS1, M, x, PITCH, h, PITCH, 0);
    product(C, VECTORS, NOTHING, theta + SECOND, H, 1, theta + BIAS2, H, h, PITCH, z, PITCH, 0);
    double value = softmax();
    product(H, VECTORS, MASK, theta + SECOND, 1, H, 0, C, z, PITCH, d, PITCH, h);
    dots(z, C, h, H, gradient + SECOND, H, 1);
    row_sums(z, C, gradient + BIAS2);
    product(H, M / W, NOTHING, d, PITCH, 1, 0, BATCH, samples, M, gradient, M, 0);
    row_sums(d, H, gradient + BIAS1);
    return value;
}
