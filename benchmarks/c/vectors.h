/* Vectors of numbers as gcc has them, as wide as the processor's. */
#ifdef __AVX512F__
enum { W = 8 };
#else
enum { W = 4 };
#endif

typedef double V __attribute__((vector_size(8 * W), may_alias));
typedef double U __attribute__((vector_size(8 * W), may_alias, aligned(8))); /* anywhere in memory */
typedef long long I __attribute__((vector_size(8 * W), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE V load(const double *p) { return *(const U *)p; }
INLINE void store(double *p, V x) { *(U *)p = x; }
INLINE V positive_part(V x) { return (V)((I)x & (I)(x > 0.0)); }

/* One step of a butterfly: of two vectors, the even and the odd groups of `distance` lanes. */
INLINE void zip(V *a, V *b, int distance) {
    V x = *a, y = *b;
#ifdef __AVX512F__
    if (distance == 1) {
        *a = __builtin_shuffle(x, y, (I){0, 8, 2, 10, 4, 12, 6, 14});
        *b = __builtin_shuffle(x, y, (I){1, 9, 3, 11, 5, 13, 7, 15});
    } else if (distance == 2) {
        *a = __builtin_shuffle(x, y, (I){0, 1, 8, 9, 4, 5, 12, 13});
        *b = __builtin_shuffle(x, y, (I){2, 3, 10, 11, 6, 7, 14, 15});
    } else {
        *a = __builtin_shuffle(x, y, (I){0, 1, 2, 3, 8, 9, 10, 11});
        *b = __builtin_shuffle(x, y, (I){4, 5, 6, 7, 12, 13, 14, 15});
    }
#else
    if (distance == 1) {
        *a = __builtin_shuffle(x, y, (I){0, 4, 2, 6});
        *b = __builtin_shuffle(x, y, (I){1, 5, 3, 7});
    } else {
        *a = __builtin_shuffle(x, y, (I){0, 1, 4, 5});
        *b = __builtin_shuffle(x, y, (I){2, 3, 6, 7});
    }
#endif
}

INLINE void transpose(V *a) {
#pragma GCC unroll 8
    for (int distance = 1; distance < W; distance *= 2)
#pragma GCC unroll 8
        for (int k = 0; k < W; k++)
            if (!(k & distance)) zip(&a[k], &a[k + distance], distance);
}

/* The sums of the lanes of W vectors, as one vector. */
INLINE V sums(V *a) {
#pragma GCC unroll 8
    for (int distance = 1; distance < W; distance *= 2)
#pragma GCC unroll 8
        for (int k = 0; k < W; k += 2 * distance) {
            zip(&a[k], &a[k + distance], distance);
            a[k] += a[k + distance];
        }
    return a[0];
}

INLINE double sum(V x) {
    double s = 0.0;
    for (int k = 0; k < W; k++) s += x[k];
    return s;
}
