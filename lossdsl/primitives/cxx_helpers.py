"""Helper functions that the C++ texts of the records call, as source; a kernel source holds exactly those it names.

They are straight-line code without calls into a library of mathematics, so that a compiler turns a loop over them into
vector instructions without assuming that values are finite: infinities, NaN and denormal numbers come out as they must.
exp and log are within 2 ulp (Cody and Waite's reduction and a polynomial; the quotient form of Sun's fdlibm), in float
and double. `real_t` is the type that a source is built for.
"""

from __future__ import annotations

from math import factorial

from lossdsl.primitives.numerics import ERFCX_SERIES

_ATANH = [2.0 / (2 * k + 1) for k in range(17)]
_TAYLOR = [1.0 / factorial(k) for k in range(14)]


def _horner(coefficients: list[float], variable: str, name: str = "p", kind: str = "double") -> str:
    """Statements that evaluate a polynomial, its highest coefficient first."""
    cast = f"({kind})" if kind != "double" else ""
    lines = [f"  {kind} {name} = {cast}{coefficients[0]!r};"]
    lines += [f"  {name} = _h_fma({name}, {variable}, {cast}{c!r});" for c in coefficients[1:]]
    return "\n".join(lines)


_CLENSHAW = "\n".join(f"  c = _h_fma(v, a, {x!r} - b); b = a; a = c;" for x in reversed(ERFCX_SERIES[1:-1]))


def _builtin(name: str, arguments: str = "x") -> str:
    """A function of the compiler's in both widths."""
    lines = []
    for type_, suffix in (("float", "f"), ("double", "")):
        typed = ", ".join(f"{type_} {a}" for a in arguments.split(", "))
        body = f"return __builtin_{name}{suffix}({arguments});"
        lines.append(f"_h_inline {type_} _h_{name}({typed}) {{ {body} }}\n")
    return "".join(lines)


CXX_HELPERS: dict[str, str] = {
    "_h_inline": """\
// A loop over lanes with a call in it is not vectorised, and in large functions compilers stop inlining by themselves.
#define _h_inline static inline __attribute__((always_inline))
""",
    "_h_fma": """\
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
_h_inline float _h_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
_h_inline double _h_fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
_h_inline float _h_fma(float a, float b, float c) { return a * b + c; }
_h_inline double _h_fma(double a, double b, double c) { return a * b + c; }
#endif
""",
    "_h_bits": """\
_h_inline uint32_t _h_bits(float x) { uint32_t b; __builtin_memcpy(&b, &x, 4); return b; }
_h_inline uint64_t _h_bits(double x) { uint64_t b; __builtin_memcpy(&b, &x, 8); return b; }
_h_inline float h_as_float(uint32_t b) { float x; __builtin_memcpy(&x, &b, 4); return x; }
_h_inline double h_as_double(uint64_t b) { double x; __builtin_memcpy(&x, &b, 8); return x; }
""",
    "_h_inf": """\
#define _h_inf ((real_t)__builtin_inf())
""",
    "_h_nan": """\
#define _h_nan ((real_t)__builtin_nan(""))
""",
    "_h_pick": """\
// c ? a : b by bits, for a condition that is the same in all lanes: compilers vectorise no branch on one. Needs _h_bits.
_h_inline float _h_pick(bool c, float a, float b) {
  const uint32_t m = -(uint32_t)c;
  return h_as_float((_h_bits(a) & m) | (_h_bits(b) & ~m));
}
_h_inline double _h_pick(bool c, double a, double b) {
  const uint64_t m = -(uint64_t)c;
  return h_as_double((_h_bits(a) & m) | (_h_bits(b) & ~m));
}
""",
    "_h_exp": f"""\
// e^r of c = n log(2) + r with |r| <= log(2) / 2; the lowest bits of t are n.
_h_inline float h_exp_part(float c, float &t) {{
  t = _h_fma(c, 1.44269504f, 12582912.0f);
  const float n = t - 12582912.0f, r = _h_fma(n, -1.42860677e-6f, _h_fma(n, -0.693145752f, c));
  float p = 1.9875691500e-4f;
  p = _h_fma(p, r, 1.3981999507e-3f);
  p = _h_fma(p, r, 8.3334519073e-3f);
  p = _h_fma(p, r, 4.1665795894e-2f);
  p = _h_fma(p, r, 1.6666665459e-1f);
  p = _h_fma(p, r, 5.0000001201e-1f);
  return _h_fma(p * r, r, r) + 1.0f;
}}
// 2^n e^r with |r| <= log(2) / 2; n is split in two so that results that are denormal round once. Needs _h_bits, _h_fma.
_h_inline float _h_exp(float x) {{
  float c = x < -104.0f ? -104.0f : x;
  c = c > 89.0f ? 89.0f : c;
  float t;
  const float p = h_exp_part(c, t);
  const uint32_t whole = _h_bits(t) - 0x4b400000u + 254u, low = whole >> 1;
  return p * h_as_float(low << 23) * h_as_float((whole - low) << 23);
}}
_h_inline double _h_exp(double x) {{
  double c = x < -746.0 ? -746.0 : x;
  c = c > 710.0 ? 710.0 : c;
  const double t = _h_fma(c, 1.4426950408889634, 6755399441055744.0), n = t - 6755399441055744.0;
  const double r = _h_fma(n, -1.90821492927058770002e-10, _h_fma(n, -6.93147180369123816490e-01, c));
{_horner(_TAYLOR[:1:-1], "r")}
  p = _h_fma(p * r, r, r) + 1.0;
  const uint64_t whole = _h_bits(t) - 0x4338000000000000u + 2046u, low = whole >> 1;
  return p * h_as_double(low << 52) * h_as_double((whole - low) << 52);
}}
""",
    "_h_exp_down": """\
// e^x for x <= 0, by the same steps with fewer cases: 2^64 of the power of two is taken back at the end, where denormal
// results round. Needs _h_exp.
_h_inline float _h_exp_down(float x) {
  const float c = x < -104.0f ? -104.0f : x;
  float t;
  const float p = h_exp_part(c, t);
  return p * h_as_float((_h_bits(t) + 191u) << 23) * 5.4210108624275222e-20f;
}
_h_inline double _h_exp_down(double x) { return _h_exp(x); }
""",
    "_h_log": """\
// m in [sqrt(1/2), sqrt(2)) and 2^k; log m = 2 atanh(f / (2 + f)), f = m - 1. Needs _h_bits, _h_fma.
_h_inline float _h_log(float x) {
  const bool tiny = x < 1.17549435e-38f;
  const uint32_t b = _h_bits(tiny ? x * 8388608.0f : x) + (0x3f800000u - 0x3f3504f3u);
  const float k = (float)((int32_t)(b >> 23) - (tiny ? 150 : 127));
  const float f = h_as_float((b & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  const float s = f / (2.0f + f), z = s * s, h = 0.5f * f * f;
  float p = 0.24279078841f;
  p = _h_fma(p, z, 0.28498786688f);
  p = _h_fma(p, z, 0.40000972152f);
  p = _h_fma(p, z, 0.66666662693f) * z;
  const float y = _h_fma(k, 6.9313812256e-01f, f - (h - _h_fma(s, h + p, k * 9.0580006145e-06f)));
  const float ends = x == 0.0f ? -__builtin_inff() : x > 0.0f ? x : __builtin_nanf("");
  return (x > 0.0f) & (x < __builtin_inff()) ? y : ends;
}
_h_inline double _h_log(double x) {
  const bool tiny = x < 2.2250738585072014e-308;
  const uint64_t b = _h_bits(tiny ? x * 18014398509481984.0 : x) + (0x3ff0000000000000u - 0x3fe6a09e00000000u);
  const double k = (double)((int32_t)(b >> 52) - (tiny ? 1077 : 1023));
  const double f = h_as_double((b & 0x000fffffffffffffu) + 0x3fe6a09e00000000u) - 1.0;
  const double s = f / (2.0 + f), z = s * s, h = 0.5 * f * f;
  double p = 1.479819860511658591e-01;
  p = _h_fma(p, z, 1.531383769920937332e-01);
  p = _h_fma(p, z, 1.818357216161805012e-01);
  p = _h_fma(p, z, 2.222219843214978396e-01);
  p = _h_fma(p, z, 2.857142874366239149e-01);
  p = _h_fma(p, z, 3.999999999940941908e-01);
  p = _h_fma(p, z, 6.666666666666735130e-01) * z;
  const double y = _h_fma(k, 6.93147180369123816490e-01, f - (h - _h_fma(s, h + p, k * 1.90821492927058770002e-10)));
  const double ends = x == 0.0 ? -__builtin_inf() : x > 0.0 ? x : __builtin_nan("");
  return (x > 0.0) & (x < __builtin_inf()) ? y : ends;
}
""",
    "_h_log1p": """\
// log(u) + (what u = 1 + x lost) / u. Needs _h_log.
template <class T> _h_inline T _h_log1p(T x) {
  const T u = (T)1 + x, lost = x - (u - (T)1);
  const T y = _h_log(u) + lost / u;
  return (x > (T)-1) & (x < (T)__builtin_inf()) ? (x == (T)0 ? x : y) : _h_log(u);
}
""",
    "_h_log1p_unit": f"""\
// log(1 + e) for 0 <= e <= 1 as 2 atanh(e / (2 + e)). Needs _h_fma.
_h_inline float _h_log1p_unit(float e) {{
  const float s = e / (2.0f + e), z = s * s;
{_horner(_ATANH[:7][::-1], "z", kind="float")}
  return p * s;
}}
_h_inline double _h_log1p_unit(double e) {{
  const double s = e / (2.0 + e), z = s * s;
{_horner(_ATANH[::-1], "z")}
  return p * s;
}}
""",
    "_h_expm1": f"""\
// Needs _h_exp.
_h_inline real_t _h_expm1(real_t x) {{
  const bool small = (x > (real_t)-0.35) & (x < (real_t)0.35);
  const real_t r = small ? x : (real_t)0;
{_horner(_TAYLOR[:0:-1], "r", kind="real_t")}
  return small ? p * r : _h_exp(x) - (real_t)1;
}}
""",
    "_h_abs": """\
_h_inline float _h_abs(float x) { return __builtin_fabsf(x); }
_h_inline double _h_abs(double x) { return __builtin_fabs(x); }
_h_inline int64_t _h_abs(int64_t x) { return x < 0 ? -x : x; }
""",
    "_h_sqrt": """\
_h_inline float _h_sqrt(float x) { return __builtin_sqrtf(x); }
_h_inline double _h_sqrt(double x) { return __builtin_sqrt(x); }
""",
    "_h_powi": """\
_h_inline real_t _h_powi(real_t x, int64_t k) {
  const int64_t n = k < 0 ? -k : k;
  real_t r = n == 0 ? (real_t)1 : x;
  if (n == 2) r = x * x;
  else if (n == 3) r = x * x * x;
  else if (n == 4) r = x * x * x * x;
  else if (n > 4) for (int64_t i = 1; i < n; ++i) r = r * x;
  return k < 0 ? (real_t)1 / r : r;
}
""",
    "_h_pow": """\
// Of floats through the double logarithm. A negative base has a value for whole exponents. Needs _h_exp, _h_log.
_h_inline float _h_pow(float a, float b) {
  const double e = (double)b;
  float m = (float)_h_exp(e * _h_log(__builtin_fabs((double)a)));
  const bool whole = __builtin_floor(e) == e, odd = whole & (e - 2.0 * __builtin_floor(0.5 * e) == 1.0);
  m = a < 0.0f ? (whole | (a == -__builtin_inff()) ? (odd ? -m : m) : __builtin_nanf("")) : m;
  return (b == 0.0f) | (a == 1.0f) ? 1.0f : m;
}
_h_inline double _h_pow(double a, double b) { return __builtin_pow(a, b); }
""",
    "_h_floordiv": """\
_h_inline int64_t _h_floordiv(int64_t a, int64_t b) {
  const int64_t d = b == 0 ? 1 : b, q = a / d;
  return q - ((a % d != 0) & ((a < 0) != (d < 0)));
}
""",
    "_h_round": """\
_h_inline int64_t _h_round(real_t x) {
  const bool known = (x > (real_t)-4611686018427387904.0) & (x < (real_t)4611686018427387904.0);
  return known ? (int64_t)(known ? x : (real_t)0) : INT64_MIN;
}
""",
    "_h_sigmoid": """\
// Needs _h_exp, _h_abs.
_h_inline real_t _h_sigmoid(real_t x) {
  const real_t e = _h_exp(-_h_abs(x));
  return (x >= (real_t)0 ? (real_t)1 : e) / ((real_t)1 + e);
}
""",
    "_h_softplus": """\
// Needs _h_exp, _h_log1p_unit, _h_abs.
_h_inline real_t _h_softplus(real_t x) {
  return (x < (real_t)0 ? (real_t)0 : x) + _h_log1p_unit(_h_exp(-_h_abs(x)));
}
""",
    "_h_log1mexp": """\
// Needs _h_exp, _h_expm1, _h_log, _h_log1p.
_h_inline real_t _h_log1mexp(real_t x) {
  const bool near = x > (real_t)-0.6931471805599453;
  const real_t a = _h_log(-_h_expm1(near ? x : (real_t)-1)), b = _h_log1p(-_h_exp(near ? (real_t)-1 : x));
  return near ? a : b;
}
""",
    "_h_logaddexp": """\
// Needs _h_exp, _h_log1p_unit.
_h_inline real_t _h_logaddexp(real_t a, real_t b) {
  const real_t m = (a >= b) | (a != a) ? a : b, n = (a >= b) | (a != a) ? b : a;
  return m + _h_log1p_unit(_h_exp(n == m ? (real_t)0 : n - m));
}
""",
    "_h_tanh": """\
// Needs _h_expm1, _h_abs.
_h_inline real_t _h_tanh(real_t x) {
  const real_t e = _h_expm1((real_t)-2 * _h_abs(x)), t = -e / (e + (real_t)2);
  return x < (real_t)0 ? -t : t;
}
""",
    "_h_sinh": """\
// Needs _h_expm1, _h_exp, _h_abs.
_h_inline real_t _h_sinh(real_t x) {
  const real_t a = _h_abs(x), e = _h_expm1(a < (real_t)20 ? a : (real_t)0), h = _h_exp((real_t)0.5 * a);
  const real_t s = a < (real_t)20 ? (real_t)0.5 * (e + e / (e + (real_t)1)) : ((real_t)0.5 * h) * h;
  return x < (real_t)0 ? -s : s;
}
""",
    "_h_cosh": """\
// Needs _h_exp, _h_abs.
_h_inline real_t _h_cosh(real_t x) {
  const real_t h = _h_exp((real_t)0.5 * _h_abs(x));
  return ((real_t)0.5 * h) * h + ((real_t)0.5 / h) / h;
}
""",
    "_h_logcosh": """\
// Needs _h_sinh, _h_log1p, _h_exp, _h_abs.
_h_inline real_t _h_logcosh(real_t x) {
  const real_t a = _h_abs(x), s = _h_sinh((real_t)0.5 * (a < (real_t)1 ? a : (real_t)0));
  const real_t near = _h_log1p((real_t)2 * s * s), far = a + _h_log1p(_h_exp((real_t)-2 * a));
  return a < (real_t)1 ? near : far - (real_t)0.6931471805599453;
}
""",
    "_h_xlogy": """\
// Needs _h_log.
_h_inline real_t _h_xlogy(real_t x, real_t y) {
  const real_t r = x * _h_log(x == (real_t)0 ? (real_t)1 : y);
  return (x == (real_t)0) & (y == y) ? (real_t)0 : r;
}
""",
    "_h_log_erfcx": f"""\
// log(exp(z^2) erfc(z) / t) at t = 2 / (2 + z), z >= 0, by Clenshaw's recurrence. Needs _h_fma.
_h_inline double _h_log_erfcx(double t) {{
  const double u = 2.0 * t - 1.0, v = 2.0 * u;
  double a = {ERFCX_SERIES[-1]!r}, b = 0.0, c;
{_CLENSHAW}
  return _h_fma(u, a, {ERFCX_SERIES[0]!r} - b);
}}
""",
    "_h_erfc": """\
// Needs _h_log_erfcx, _h_exp.
_h_inline double _h_erfc(double x) {
  const double z = __builtin_fabs(x), t = 2.0 / (2.0 + z), r = t * _h_exp(_h_log_erfcx(t) - z * z);
  return x < 0.0 ? 2.0 - r : r;
}
""",
    "_h_log_normal_cdf": """\
// Needs _h_log_erfcx, _h_log, _h_log1p, _h_exp.
_h_inline double _h_log_normal_cdf(double x) {
  const double z = 0.7071067811865476 * __builtin_fabs(x), t = 2.0 / (2.0 + z), p = _h_log_erfcx(t);
  const double below = _h_log(0.5 * t) + p - z * z, above = _h_log1p(-0.5 * t * _h_exp(p - z * z));
  return x < 0.0 ? below : above;
}
""",
    "_h_inverse_mills": """\
// Needs _h_log_erfcx, _h_exp.
_h_inline double _h_inverse_mills(double x) {
  const double z = 0.7071067811865476 * __builtin_fabs(x), t = 2.0 / (2.0 + z), p = _h_exp(_h_log_erfcx(t));
  const double e = _h_exp(-z * z);
  const double below = 0.7978845608028654 / (t * p), above = 0.3989422804014327 * e / (1.0 - 0.5 * t * e * p);
  return x < 0.0 ? below : above;
}
""",
    "_h_absorb": """\
// One more term of a log-sum-exp with the state (m, s) = m + log(s). Nothing is (lowest, 0), so that no difference of
// infinities comes up but that of equal ones. Needs _h_exp, _h_abs.
_h_inline void _h_absorb(real_t &m, real_t &s, real_t x) {
  const real_t e = _h_exp(-_h_abs(x == m ? (real_t)0 : x - m));
  const bool more = x > m;
  s = s * (more ? e : (real_t)1) + (more ? (real_t)1 : e);
  m = more ? x : m;
}
""",
    "_h_absorb_in": """\
// The same where the sum comes in a pass of its own: here the largest term alone. Needs _h_absorb.
template <bool Resident>
_h_inline void _h_absorb_in(real_t &m, real_t &s, real_t x) {
  if (Resident) m = x > m ? x : m;
  else _h_absorb(m, s, x);
}
""",
    "_h_level": """\
// The largest of all lanes in each.
_h_inline void _h_level(real_t *m, int64_t count) {
  real_t top = m[0];
  #pragma omp simd reduction(max:top)
  for (int64_t j = 0; j < count; ++j) top = m[j] > top ? m[j] : top;
  for (int64_t j = 0; j < count; ++j) m[j] = top;
}
""",
    "_h_factor": """\
// exp(top - whole), which makes a softmax of exponentials below a row's largest term; `none` where there are none, and 1
// below an infinite one, which alone counts. Needs _h_exp_down.
_h_inline real_t _h_factor(real_t top, real_t whole, real_t none) {
  return top == _h_inf ? (real_t)1 : whole == -_h_inf ? none : _h_exp_down(top - whole);
}
""",
    "_h_room": """\
// Memory of a thread for what is kept of a row between two passes over it.
_h_inline real_t *_h_room(int k) {
  alignas(64) static thread_local real_t rooms[4][131072];
  return rooms[k];
}
""",
    "_h_put": """\
// Store the values of some lanes, `step` apart; past the caches if that is wanted and they make up whole lines of memory.
template <class V> _h_inline void h_past(real_t *to, const real_t *from) {
  V v;
  __builtin_memcpy(&v, from, sizeof v);
#if defined(__clang__)
  __builtin_nontemporal_store(v, (V *)to);
#elif defined(__x86_64__)
  if (sizeof v == 64) __asm__ volatile("vmovntps %1, %0" : "=m"(*(V *)to) : "v"(v));
  else if (sizeof v == 32) __asm__ volatile("vmovntps %1, %0" : "=m"(*(V *)to) : "x"(v));
  else __asm__ volatile("movntps %1, %0" : "=m"(*(V *)to) : "x"(v));
#else
  __builtin_memcpy(to, &v, sizeof v);
#endif
}
#if defined(__AVX512F__)
typedef real_t h_line __attribute__((vector_size(64)));
#elif defined(__AVX__)
typedef real_t h_line __attribute__((vector_size(32)));
#else
typedef real_t h_line __attribute__((vector_size(16)));
#endif
template <int Count>
_h_inline void _h_put(real_t *to, const real_t *line, int64_t len, int64_t step, bool past) {
  if (past && step == 1 && len == Count && ((uintptr_t)to & 63) == 0) {
    for (int k = 0; k < Count; k += sizeof(h_line) / sizeof(real_t)) h_past<h_line>(to + k, line + k);
    return;
  }
  #pragma omp simd
  for (int64_t j = 0; j < len; ++j) to[j * step] = line[j];
}
""",
    "_h_settle": """\
// Other threads see what was stored past the caches.
_h_inline void _h_settle() {
#if defined(__x86_64__)
  __asm__ volatile("sfence" ::: "memory");
#else
  __sync_synchronize();
#endif
}
""",
    "_h_fetch": """\
// Have entries in the cache when they are read. Needs _h_inline.
template <int Count, class T> _h_inline void _h_fetch(const T *from) {
  for (int k = 0; k < Count * (int)sizeof(T); k += 64) __builtin_prefetch((const char *)from + k);
}
""",
    "_h_yes": """\
struct _h_yes { static constexpr bool is = true; };
""",
    "_h_no": """\
struct _h_no { static constexpr bool is = false; };
""",
    "_h_lowest": """\
#define _h_lowest ((real_t)(sizeof(real_t) == 4 ? -3.40282346638528859812e38 : -1.79769313486231570815e308))
""",
    "_h_merge_lanes": """\
// The states of some parts of a log-sum-exp in the first one. Needs _h_exp.
_h_inline void _h_merge_lanes(real_t *m, real_t *s, int64_t count) {
  real_t top = m[0], sum = 0;
  #pragma omp simd reduction(max:top)
  for (int64_t j = 0; j < count; ++j) top = m[j] > top ? m[j] : top;
  #pragma omp simd reduction(+:sum)
  for (int64_t j = 0; j < count; ++j) sum += m[j] == top ? s[j] : s[j] * _h_exp(m[j] - top);
  m[0] = top;
  s[0] = sum;
}
""",
    "_h_better": """\
// The first of the largest (Sign = 1) or smallest (-1) entries; nan wins, the index -1 never does.
template <int Sign, class T> _h_inline void _h_better(T &m, int64_t &i, T x, int64_t k) {
  const bool ahead = Sign > 0 ? x > m : x < m, nan = x != x, held = m != m;
  const bool equal = (x == m) | (nan & held);
  const bool take = (k >= 0) & ((i < 0) | (nan & !held) | (ahead & !held) | (equal & (k < i)));
  m = take ? x : m;
  i = take ? k : i;
}
""",
    **{f"_h_{name}": _builtin(name) for name in ("sin", "cos", "tan", "asin", "acos", "atan", "erf")},
    "_h_atan2": _builtin("atan2", "y, x"),
}
