/* The expression of micrograd's README, simplified by hand; out = value, derivative by a, derivative by b. */

void run(double a, double b, double *restrict out) {
    double up = a + b > 0.0, down = b - a > 0.0;
    double d = 12.0 * (a * b + b * b * b) + 4.0 * up * (a + b) + down * (b - a);
    double e = 3.0 * a + 4.0 * b + 3.0 - d;
    double f = e * e;
    double by_e = e - 20.0 / (f * e);
    out[0] = 0.5 * f + 10.0 / f;
    out[1] = by_e * (3.0 - (12.0 * b + 4.0 * up - down));
    out[2] = by_e * (4.0 - (12.0 * (a + 3.0 * b * b) + 4.0 * up + down));
}
