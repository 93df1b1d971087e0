/* Dense layers on arrays [member][sample]: vectors over samples, and a block of numbers at a time in registers. */
#include "vectors.h"

#ifdef __AVX512F__
enum { ACROSS = 5 };
#else
enum { ACROSS = 3 };
#endif
enum { VECTORS = (BATCH + W - 1) / W, PITCH = W * VECTORS }; /* the samples beyond the batch weigh nothing */

#define PADDED(n) (((n) + W - 1) / W * W)
#define ROWS(name, n) static double name[PADDED(n) * PITCH] __attribute__((aligned(64)))

enum After { NOTHING, RELU, MASK };

/* out[r][v] = bias[r] + sum over k of weights[r * down + k * along] * in[k][v], for rows r and vectors v. */
INLINE void block(const int rows, const int vectors, enum After after, const double *weights, long down, long along,
                  const double *bias, long depth, const double *in, long in_pitch, double *out, long out_pitch,
                  const double *mask) {
    V s[4][ACROSS];
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) s[r][v] = (V){0.0} + (bias ? bias[r] : 0.0);
    for (long k = 0; k < depth; k++) {
        V x[ACROSS];
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) x[v] = load(in + k * in_pitch + W * v);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            V w = (V){0.0} + weights[r * down + k * along];
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) s[r][v] += w * x[v];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < rows; r++)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) {
            long at = r * out_pitch + W * v;
            V y = s[r][v];
            if (after == RELU) y = positive_part(y);
            if (after == MASK) y = (V)((I)y & (I)(load(mask + at) > 0.0));
            store(out + at, y);
        }
}

/* The same for all rows and vectors, in blocks. */
INLINE void product(long rows, long vectors, enum After after, const double *weights, long down, long along,
                    const double *bias, long depth, const double *in, long in_pitch, double *out, long out_pitch,
                    const double *mask) {
    long blocks = (vectors + ACROSS - 1) / ACROSS, v = 0;
    for (long b = 0; b < blocks; b++) {
        long wide = (vectors - v + blocks - b - 1) / (blocks - b);
        for (long r = 0; r < rows;) {
            long high = rows - r >= 4 ? 4 : rows - r >= 2 ? 2 : 1;
#define BLOCK(H, A)                                                                                                 \
    if (high == H && wide == A)                                                                                     \
        block(H, A, after, weights + r * down, down, along, bias ? bias + r : 0, depth, in + W * v, in_pitch, \
              out + r * out_pitch + W * v, out_pitch, mask ? mask + r * out_pitch + W * v : 0);
#define BLOCKS(A) BLOCK(4, A) BLOCK(2, A) BLOCK(1, A)
            BLOCKS(1) BLOCKS(2) BLOCKS(3)
#ifdef __AVX512F__
            BLOCKS(4) BLOCKS(5)
#endif
            r += high;
        }
        v += wide;
    }
}

/* out[r * down + c * along] = sum over the samples of left[r] * right[c], two rows and W columns at a time. */
INLINE void dots_of(const int rows, const double *left, const double *right, long columns, double *out, long down,
                    long along) {
    for (long c = 0; c < columns; c += W) {
        V s[2][W] = {{{0.0}}};
        for (int v = 0; v < VECTORS; v++)
#pragma GCC unroll 8
            for (int k = 0; k < W; k++) {
                V y = load(right + (c + k) * PITCH + W * v);
#pragma GCC unroll 2
                for (int r = 0; r < rows; r++) s[r][k] += load(left + r * PITCH + W * v) * y;
            }
#pragma GCC unroll 2
        for (int r = 0; r < rows; r++) {
            V found = sums(s[r]);
            if (along == 1 && c + W <= columns)
                store(out + r * down + c, found);
            else
                for (int k = 0; k < W && c + k < columns; k++) out[r * down + (c + k) * along] = found[k];
        }
    }
}

INLINE void dots(const double *left, long rows, const double *right, long columns, double *out, long down, long along) {
    long r = 0;
    for (; r + 2 <= rows; r += 2) dots_of(2, left + r * PITCH, right, columns, out + r * down, down, along);
    if (r < rows) dots_of(1, left + r * PITCH, right, columns, out + r * down, down, along);
}

/* out[r] = the sum over the samples of rows[r]. */
INLINE void row_sums(const double *rows, long count, double *out) {
    for (long r = 0; r < count; r += W) {
        V s[W] = {{0.0}};
        for (int v = 0; v < VECTORS; v++)
#pragma GCC unroll 8
            for (int k = 0; k < W; k++) s[k] += load(rows + (r + k) * PITCH + W * v);
        V found = sums(s);
        for (int k = 0; k < W && r + k < count; k++) out[r + k] = found[k];
    }
}

/* Samples with `members` numbers each, to rows [member][sample]. */
INLINE void pack(const double *samples, long members, double *rows) {
    for (long b = 0; b < BATCH; b += W)
        for (long m = 0; m < members; m += W) {
            V a[W];
#pragma GCC unroll 8
            for (int k = 0; k < W; k++) {
                if (b + k < BATCH && m + W <= members)
                    a[k] = load(samples + (b + k) * members + m);
                else {
                    a[k] = (V){0.0};
                    for (int j = 0; b + k < BATCH && m + j < members; j++) a[k][j] = samples[(b + k) * members + m + j];
                }
            }
            transpose(a);
#pragma GCC unroll 8
            for (int k = 0; k < W; k++) store(rows + (m + k) * PITCH + b, a[k]);
        }
}
