/* The loop of fedray.aggregators.exact.add_change in one pass: a number is subtracted, judged, rounded and added while
   it is in a register.  Every operation rounds as numpy's does, so that the bits are the same. */

#include <math.h>
#include <stdint.h>

/* Entries that are judged before one of them is added; they stay in the first cache. */
enum { CHUNK = 1024 };

/* One library serves nodes with older and with newer processors. */
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

/* Add rint(scale * (end - start)) to n sums; return how many were added: fewer than n, whole chunks, if a difference of
   the next chunk is not finite, or not below limit in magnitude. */
#define ADD_CHANGE(NAME, TYPE)                                                                                      \
    FOR_EACH_PROCESSOR int64_t NAME(TYPE *restrict sums, const float *restrict end, const float *restrict start,    \
                                    int64_t n, double scale, float limit)                                           \
    {                                                                                                               \
        for (int64_t first = 0; first < n; first += CHUNK) {                                                        \
            const int64_t last = n - first < CHUNK ? n : first + CHUNK;                                             \
            int wrong = 0;                                                                                          \
            for (int64_t i = first; i < last; i++)                                                                  \
                wrong |= !(fabsf(end[i] - start[i]) < limit);                                                       \
            if (wrong)                                                                                              \
                return first;                                                                                       \
            for (int64_t i = first; i < last; i++)                                                                  \
                sums[i] += (TYPE)rint((double)(end[i] - start[i]) * scale);                                         \
        }                                                                                                           \
        return n;                                                                                                   \
    }

ADD_CHANGE(add_change_short, int32_t)
ADD_CHANGE(add_change_wide, double)
