/* A network 2-16-16-1 with ReLUs, hinge loss and L2, and its gradient, on 100 points.

   The parameters and the gradient are, layer by layer, the matrix of weights and the biases. */
enum { BATCH = 100, H = 16 };
#include "network.h"

enum { BIAS1 = 2 * H, SECOND = BIAS1 + H, BIAS2 = SECOND + H * H, THIRD = BIAS2 + H, BIAS3 = THIRD + H, ALL };
ROWS(x, 2);
ROWS(y, 1);
ROWS(h1, H);
ROWS(h2, H);
ROWS(d1, H);
ROWS(d2, H);
ROWS(d3, 1);

double run(const double *theta, const double *samples, const double *labels, double *restrict gradient) {
    const double decay = 1e-4;
    for (int b = 0; b < BATCH; b++) {
        x[b] = samples[2 * b];
        x[PITCH + b] = samples[2 * b + 1];
        y[b] = labels[b];
    }
    product(H, VECTORS, RELU, theta, 2, 1, theta + BIAS1, 2, x, PITCH, h1, PITCH, 0);
    product(H, VECTORS, RELU, theta + SECOND, H, 1, theta + BIAS2, H, h1, PITCH, h2, PITCH, 0);
    product(1, VECTORS, NOTHING, theta + THIRD, H, 1, theta + BIAS3, H, h2, PITCH, d3, PITCH, 0);
    V values = {0.0};
    for (int b = 0; b < PITCH; b += W) { /* beyond the batch y is 0: each value there is 1, each slope 0 */
        V label = load(y + b), margin = 1.0 - label * load(d3 + b);
        values += positive_part(margin);
        store(d3 + b, (V)((I)(label * (-1.0 / BATCH)) & (I)(margin > 0.0)));
    }
    product(H, VECTORS, MASK, theta + THIRD, 1, 0, 0, 1, d3, PITCH, d2, PITCH, h2);
    product(H, VECTORS, MASK, theta + SECOND, 1, H, 0, H, d2, PITCH, d1, PITCH, h1);
    dots(x, 2, d1, H, gradient, 1, 2);
    row_sums(d1, H, gradient + BIAS1);
    dots(d2, H, h1, H, gradient + SECOND, H, 1);
    row_sums(d2, H, gradient + BIAS2);
    dots(d3, 1, h2, H, gradient + THIRD, H, 1);
    row_sums(d3, 1, gradient + BIAS3);
    V squares = {0.0};
    int k = 0;
    for (; k + W <= ALL; k += W) {
        V p = load(theta + k);
        squares += p * p;
        store(gradient + k, load(gradient + k) + 2.0 * decay * p);
    }
    double square = sum(squares);
    for (; k < ALL; k++) {
        square += theta[k] * theta[k];
        gradient[k] += 2.0 * decay * theta[k];
    }
    return (sum(values) - (PITCH - BATCH)) / BATCH + decay * square;
}
