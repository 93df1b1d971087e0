/* The price of a call and its derivatives by spot, strike, years, rate and volatility, in closed form: of each
   scenario two erf, two exp, one log and one square root. gcc takes the vector functions of libmvec for them where
   -ffast-math allows it, and libm's one by one where not. */
#include <math.h>

void run(long n, const double *restrict spot, const double *restrict strike, const double *restrict years,
         const double *restrict rate, const double *restrict volatility, double *restrict price,
         double *restrict by_spot, double *restrict by_strike, double *restrict by_years, double *restrict by_rate,
         double *restrict by_volatility) {
    for (long i = 0; i < n; i++) {
        double s = spot[i], k = strike[i], t = years[i], r = rate[i], v = volatility[i];
        double root = sqrt(t), spread = v * root;
        double d1 = (log(s / k) + (r + 0.5 * v * v) * t) / spread, d2 = d1 - spread;
        double n1 = 0.5 + 0.5 * erf(d1 * M_SQRT1_2), n2 = 0.5 + 0.5 * erf(d2 * M_SQRT1_2);
        double discount = exp(-r * t), owed = k * discount * n2;
        double density = s * exp(-0.5 * d1 * d1) * (0.5 * M_SQRT1_2 * M_2_SQRTPI);
        price[i] = s * n1 - owed;
        by_spot[i] = n1;
        by_strike[i] = -discount * n2;
        by_years[i] = density * v / (2.0 * root) + r * owed;
        by_rate[i] = t * owed;
        by_volatility[i] = density * root;
    }
}
