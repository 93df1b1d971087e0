/* The GPT of examples/gpt.py on one document, the mean surprise and its gradient: vectors over the positions.

   The parameters and the gradient are, in the order of the model, the two embeddings and the layers, each of which has
   for each output a row of weights and the bias. LENGTH and LETTERS are given by -D. gcc takes libmvec's exp and log
   where -ffast-math allows it. */
#include <math.h>
#include <string.h>
enum { BATCH = LENGTH, N = 16, HEADS = 4, SIZE = N / HEADS, WIDE = 4 * N, CONTEXT = 16 };
#include "network.h"

enum {
    POSITION = LETTERS * N,
    QUERY = POSITION + CONTEXT * N,
    KEY = QUERY + N * (N + 1),
    VALUE = KEY + N * (N + 1),
    MIXED = VALUE + N * (N + 1),
    UP = MIXED + N * (N + 1),
    DOWN = UP + WIDE * (N + 1),
    SCORES = DOWN + N * (WIDE + 1),
    ALL = SCORES + LETTERS * (N + 1)
};

ROWS(x0, N);
ROWS(x1, N);
ROWS(x2, N);
ROWS(n0, N);
ROWS(n1, N);
ROWS(n2, N);
ROWS(query, N);
ROWS(key, N);
ROWS(value, N);
ROWS(heads, N);
ROWS(mixed, N);
ROWS(up, WIDE);
ROWS(z, LETTERS);
ROWS(dx, N);
ROWS(dy, N);
ROWS(dq, N);
ROWS(dk, N);
ROWS(dv, N);
ROWS(dup, WIDE);
static double r0[PITCH], r1[PITCH], r2[PITCH];
static double shares[HEADS][LENGTH][PITCH] __attribute__((aligned(64)));

/* A layer's outputs; a layer's part of the gradient; what flows back to its inputs. */
INLINE void affine(const double *w, int in, int out, enum After after, const double *x, double *y) {
    double bias[WIDE];
    for (int o = 0; o < out; o++) bias[o] = w[o * (in + 1) + in];
    product(out, VECTORS, after, w, in + 1, 1, bias, in, x, PITCH, y, PITCH, 0);
}

INLINE void weights(const double *x, int in, const double *slopes, int out, double *gradient) {
    double bias[PADDED(WIDE)];
    dots(slopes, out, x, in, gradient, in + 1, 1);
    row_sums(slopes, out, bias);
    for (int o = 0; o < out; o++) gradient[o * (in + 1) + in] = bias[o];
}

INLINE void back(const double *w, int in, int out, const double *slopes, double *flow, const double *mask) {
    product(in, VECTORS, mask ? MASK : NOTHING, w, 1, in + 1, 0, out, slopes, PITCH, flow, PITCH, mask);
}

INLINE void normalise(const double *x, double *scale, double *y) {
    for (int t = 0; t < PITCH; t++) {
        double s = 0.0;
        for (int i = 0; i < N; i++) s += x[i * PITCH + t] * x[i * PITCH + t];
        scale[t] = 1.0 / sqrt(s / N + 1e-5);
    }
    for (int i = 0; i < N; i++)
        for (int t = 0; t < PITCH; t++) y[i * PITCH + t] = x[i * PITCH + t] * scale[t];
}

INLINE void normalise_back(const double *x, const double *scale, const double *slopes, double *flow) {
    double along[PITCH];
    for (int t = 0; t < PITCH; t++) {
        double s = 0.0;
        for (int i = 0; i < N; i++) s += x[i * PITCH + t] * slopes[i * PITCH + t];
        along[t] = s * scale[t] * scale[t] * scale[t] / N;
    }
    for (int i = 0; i < N; i++)
        for (int t = 0; t < PITCH; t++)
            flow[i * PITCH + t] += slopes[i * PITCH + t] * scale[t] - x[i * PITCH + t] * along[t];
}

static void attend(void) {
    for (int h = 0; h < HEADS; h++)
        for (int t = 0; t < LENGTH; t++) {
            const double *q = query + h * SIZE * PITCH + t, *k = key + h * SIZE * PITCH, *v = value + h * SIZE * PITCH;
            double *a = shares[h][t], top, total = 0.0;
            for (int j = 0; j < PITCH; j++) {
                double s = 0.0;
                for (int f = 0; f < SIZE; f++) s += q[f * PITCH] * k[f * PITCH + j];
                a[j] = 0.5 * s;
            }
            top = a[0];
            for (int j = 1; j <= t; j++) top = a[j] > top ? a[j] : top;
#ifdef __FAST_MATH__
            for (int j = 0; j < PITCH; j++) a[j] = exp(j <= t ? a[j] - top : -700.0);
            for (int j = 0; j < PITCH; j++) a[j] = j <= t ? a[j] : 0.0;
#else
            for (int j = 0; j < PITCH; j++) a[j] = j <= t ? exp(a[j] - top) : 0.0;
#endif
            for (int j = 0; j <= t; j++) total += a[j];
            for (int j = 0; j < PITCH; j++) a[j] /= total;
            V s[SIZE] = {{0.0}};
            for (int j = 0; j < PITCH; j += W)
                for (int f = 0; f < SIZE; f++) s[f] += load(a + j) * load(v + f * PITCH + j);
            for (int f = 0; f < SIZE; f++) heads[(h * SIZE + f) * PITCH + t] = sum(s[f]);
        }
}

static void attend_back(const double *slopes) {
    memset(dk, 0, sizeof dk);
    memset(dv, 0, sizeof dv);
    for (int h = 0; h < HEADS; h++)
        for (int t = 0; t < LENGTH; t++) {
            const int rows = h * SIZE * PITCH;
            const double *a = shares[h][t];
            V by_share[VECTORS], along = {0.0}, s[SIZE] = {{0.0}};
            for (int b = 0; b < VECTORS; b++) {
                by_share[b] = (V){0.0};
                for (int f = 0; f < SIZE; f++)
                    by_share[b] += slopes[rows + f * PITCH + t] * load(value + rows + f * PITCH + W * b);
                along += load(a + W * b) * by_share[b];
            }
            double mean = sum(along);
            for (int b = 0; b < VECTORS; b++) {
                V by_score = 0.5 * load(a + W * b) * (by_share[b] - mean);
                for (int f = 0; f < SIZE; f++) {
                    const int at = rows + f * PITCH;
                    s[f] += by_score * load(key + at + W * b);
                    store(dk + at + W * b, load(dk + at + W * b) + by_score * query[at + t]);
                    store(dv + at + W * b, load(dv + at + W * b) + load(a + W * b) * slopes[at + t]);
                }
            }
            for (int f = 0; f < SIZE; f++) dq[rows + f * PITCH + t] = sum(s[f]);
        }
}

/* Rows of scores become rows of slopes; returns the mean surprise. */
static double surprise(const long *following) {
    double top[PITCH], total[PITCH] = {0.0}, chosen = 0.0, sum_of_logs = 0.0;
    for (int t = 0; t < LENGTH; t++) chosen += z[following[t] * PITCH + t];
    for (int t = 0; t < PITCH; t++) top[t] = z[t];
    for (int c = 1; c < LETTERS; c++)
        for (int t = 0; t < PITCH; t++) top[t] = z[c * PITCH + t] > top[t] ? z[c * PITCH + t] : top[t];
    for (int c = 0; c < LETTERS; c++)
        for (int t = 0; t < PITCH; t++) total[t] += z[c * PITCH + t] = exp(z[c * PITCH + t] - top[t]);
    for (int t = 0; t < LENGTH; t++) sum_of_logs += log(total[t]) + top[t];
    for (int t = 0; t < PITCH; t++) total[t] = (t < LENGTH ? 1.0 / LENGTH : 0.0) / total[t];
    for (int c = 0; c < LETTERS; c++)
        for (int t = 0; t < PITCH; t++) z[c * PITCH + t] *= total[t];
    for (int t = 0; t < LENGTH; t++) z[following[t] * PITCH + t] -= 1.0 / LENGTH;
    return (sum_of_logs - chosen) / LENGTH;
}

double run(const double *theta, const long *tokens, const long *following, double *restrict gradient) {
    for (int t = 0; t < LENGTH; t++)
        for (int i = 0; i < N; i++) x0[i * PITCH + t] = theta[tokens[t] * N + i] + theta[POSITION + t * N + i];
    normalise(x0, r0, n0);
    affine(theta + QUERY, N, N, NOTHING, n0, query);
    affine(theta + KEY, N, N, NOTHING, n0, key);
    affine(theta + VALUE, N, N, NOTHING, n0, value);
    attend();
    affine(theta + MIXED, N, N, NOTHING, heads, mixed);
    for (int k = 0; k < N * PITCH; k++) x1[k] = x0[k] + mixed[k];
    normalise(x1, r1, n1);
    affine(theta + UP, N, WIDE, RELU, n1, up);
    affine(theta + DOWN, WIDE, N, NOTHING, up, mixed);
    for (int k = 0; k < N * PITCH; k++) x2[k] = x1[k] + mixed[k];
    normalise(x2, r2, n2);
    affine(theta + SCORES, N, LETTERS, NOTHING, n2, z);
    double result = surprise(following);

    memset(gradient, 0, QUERY * sizeof *gradient);
    memset(dx, 0, sizeof dx);
    weights(n2, N, z, LETTERS, gradient + SCORES);
    back(theta + SCORES, N, LETTERS, z, dy, 0);
    normalise_back(x2, r2, dy, dx);
    weights(up, WIDE, dx, N, gradient + DOWN);
    back(theta + DOWN, WIDE, N, dx, dup, up);
    weights(n1, N, dup, WIDE, gradient + UP);
    back(theta + UP, N, WIDE, dup, dy, 0);
    normalise_back(x1, r1, dy, dx);
    weights(heads, N, dx, N, gradient + MIXED);
    back(theta + MIXED, N, N, dx, dy, 0);
    attend_back(dy);
    weights(n0, N, dq, N, gradient + QUERY);
    weights(n0, N, dk, N, gradient + KEY);
    weights(n0, N, dv, N, gradient + VALUE);
    back(theta + QUERY, N, N, dq, dy, 0);
    back(theta + KEY, N, N, dk, mixed, 0);
    back(theta + VALUE, N, N, dv, heads, 0);
    for (int k = 0; k < N * PITCH; k++) dy[k] += mixed[k] + heads[k];
    normalise_back(x0, r0, dy, dx);
    for (int t = 0; t < LENGTH; t++)
        for (int i = 0; i < N; i++) {
            gradient[tokens[t] * N + i] += dx[i * PITCH + t];
            gradient[POSITION + t * N + i] += dx[i * PITCH + t];
        }
    return result;
}
