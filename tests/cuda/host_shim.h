// Runs CUDA C kernels on the host, so that their text can be tested without a GPU.
//
// The kernel text follows this header in one translation unit; shim.py appends SHIM_EXPORT lines.
// Every CUDA thread runs until it ends or reaches __syncthreads(). Threads that end without a
// barrier share one fiber; a thread that waits keeps its fiber and the next thread gets another.
// Not re-entrant: one launch at a time (shim.py holds a lock).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

struct uint3 { unsigned x, y, z; };
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace shim {

// ---- Fibers: switching between stacks -----------------------------------------------------

constexpr size_t kStackBytes = 64 << 10;

struct Fiber {
  char* stack = nullptr;
  uint3 thread{0, 0, 0};
  unsigned site = 0;        // __COUNTER__ of the barrier that the thread waits at
  unsigned line = 0;
  bool waiting = false;
  void* fake_stack = nullptr;
#if defined(__x86_64__)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
};

#if defined(__x86_64__)
extern "C" void shim_switch(void** save_to, void* load_from);
asm(R"(
.text
.globl shim_switch
.hidden shim_switch
.type shim_switch,@function
shim_switch:
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rsp,(%rdi)
  mov %rsi,%rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
)");
inline void switch_to(Fiber& from, Fiber& to) {
  shim_switch(&from.stack_pointer, to.stack_pointer);
}
inline void prepare(Fiber& fiber, void (*entry)()) {
  void** top = reinterpret_cast<void**>(fiber.stack + kStackBytes - 64);
  *--top = nullptr;                                 // return address of entry: never used
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  fiber.stack_pointer = top;
}
#else
inline void switch_to(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }
inline void prepare(Fiber& fiber, void (*entry)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack;
  fiber.context.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber.context, entry, 0);
}
#endif

// ---- State of the launch ------------------------------------------------------------------

struct Launch {
  uint3 thread{0, 0, 0}, block{0, 0, 0};
  dim3 block_size, grid_size;
  std::function<void()> body;                // the kernel with its arguments bound
  std::vector<unsigned> order;               // thread numbers of the block, in running order
  size_t next = 0;                           // position in order of the next thread to start
  std::vector<Fiber*> idle, suspended;
  Fiber scheduler;
  Fiber* running = nullptr;
  const void* scheduler_stack = nullptr;     // AddressSanitizer's view of the scheduler's stack
  size_t scheduler_stack_bytes = 0;
  uint64_t random = 0;
  int seed = 0;
  char error[512] = "";
};
inline Launch* launch = nullptr;

inline unsigned random_below(unsigned bound) {
  launch->random = launch->random * 6364136223846793005ull + 1442695040888963407ull;
  return static_cast<unsigned>((launch->random >> 33) % bound);
}
template <class T> void shuffle(std::vector<T>& items) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random_below(i)]);
}
// Order of 0..count-1: seed 0 up, 1 down, otherwise shuffled.
inline std::vector<unsigned> visiting_order(unsigned count) {
  std::vector<unsigned> order(count);
  for (unsigned i = 0; i < count; ++i) order[i] = launch->seed == 1 ? count - 1 - i : i;
  if (launch->seed > 1) shuffle(order);
  return order;
}

// ---- Switching, with AddressSanitizer told about it ---------------------------------------

inline void resume(Fiber& fiber) {
  launch->running = &fiber;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&launch->scheduler.fake_stack, fiber.stack, kStackBytes);
#endif
  switch_to(launch->scheduler, fiber);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(launch->scheduler.fake_stack, nullptr, nullptr);
#endif
}
__attribute__((noinline)) inline void back_to_scheduler(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fiber.fake_stack, launch->scheduler_stack,
                                 launch->scheduler_stack_bytes);
#endif
  switch_to(fiber, launch->scheduler);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.fake_stack, &launch->scheduler_stack,
                                  &launch->scheduler_stack_bytes);
#endif
}

inline uint3 thread_index(unsigned number) {
  const dim3& size = launch->block_size;
  return {number % size.x, number / size.x % size.y, number / (size.x * size.y)};
}
// Body of every fiber: runs threads one after the other until none is left to start.
inline void fiber_main() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &launch->scheduler_stack,
                                  &launch->scheduler_stack_bytes);
#endif
  for (;;) {
    Fiber& fiber = *launch->running;
    while (launch->next < launch->order.size()) {
      launch->thread = thread_index(launch->order[launch->next++]);
      launch->body();
    }
    fiber.waiting = false;
    back_to_scheduler(fiber);
  }
}
__attribute__((noinline)) inline void barrier(unsigned site, unsigned line) {
  Fiber& fiber = *launch->running;
  fiber.thread = launch->thread;
  fiber.site = site;
  fiber.line = line;
  fiber.waiting = true;
  back_to_scheduler(fiber);
}

// ---- One block ----------------------------------------------------------------------------

inline Fiber* idle_fiber() {
  if (launch->idle.empty()) {
    Fiber* fiber = new Fiber;
    fiber->stack = static_cast<char*>(aligned_alloc(64, kStackBytes));
    prepare(*fiber, fiber_main);
    return fiber;
  }
  Fiber* fiber = launch->idle.back();
  launch->idle.pop_back();
  return fiber;
}
inline void run_and_file(Fiber* fiber, std::vector<Fiber*>& waiting) {
  resume(*fiber);
  (fiber->waiting ? waiting : launch->idle).push_back(fiber);
}
inline bool fail(const char* text, unsigned a, unsigned b) {
  const uint3& at = launch->block;
  int used = snprintf(launch->error, sizeof launch->error, "block (%u, %u, %u): ", at.x, at.y, at.z);
  snprintf(launch->error + used, sizeof launch->error - used, text, a, b);
  return false;
}
inline bool barrier_is_uniform(const std::vector<Fiber*>& waiting) {
  if (waiting.empty()) return true;
  const Fiber& first = *waiting[0];
  if (waiting.size() != launch->order.size())
    return fail("%u threads wait in __syncthreads() at line %u while the others have ended",
                static_cast<unsigned>(waiting.size()), first.line);
  for (const Fiber* fiber : waiting)
    if (fiber->site != first.site)
      return fail("threads wait in different __syncthreads(), at lines %u and %u", first.line,
                  fiber->line);
  return true;
}
inline bool run_block() {
  std::vector<Fiber*>& waiting = launch->suspended;
  waiting.clear();
  launch->order = visiting_order(launch->block_size.x * launch->block_size.y * launch->block_size.z);
  launch->next = 0;
  while (launch->next < launch->order.size()) run_and_file(idle_fiber(), waiting);
  while (!waiting.empty()) {
    if (!barrier_is_uniform(waiting)) return false;
    std::vector<Fiber*> now;
    now.swap(waiting);
    if (launch->seed > 1) shuffle(now);
    for (Fiber* fiber : now) {
      launch->thread = fiber->thread;
      run_and_file(fiber, waiting);
    }
  }
  return true;
}

// ---- Shared memory ------------------------------------------------------------------------

extern "C" {
extern char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));
}
// Fills all __shared__ variables with 0xFF: NaN in any float, -1 in any int.
__attribute__((no_sanitize("address"))) inline void poison_shared() {
  volatile char* end = __stop_cuda_shared;
  for (volatile char* p = __start_cuda_shared; p != end; ++p) *p = static_cast<char>(0xFF);
}

// ---- One launch ---------------------------------------------------------------------------

inline void free_fibers(std::vector<Fiber*>& fibers) {
  for (Fiber* fiber : fibers) {
    free(fiber->stack);
    delete fiber;
  }
}
// Returns 0, or 1 with the reason in error (512 bytes). sizes: grid x, y, z, block x, y, z.
inline int run_grid(const unsigned* sizes, int seed, char* error, std::function<void()> body) {
  Launch state;
  launch = &state;
  state.grid_size = dim3(sizes[0], sizes[1], sizes[2]);
  state.block_size = dim3(sizes[3], sizes[4], sizes[5]);
  state.body = std::move(body);
  state.seed = seed;
  state.random = static_cast<uint64_t>(seed) * 0x9E3779B97F4A7C15ull + 1;
  bool good = true;
  for (unsigned number : visiting_order(sizes[0] * sizes[1] * sizes[2])) {
    state.block = {number % sizes[0], number / sizes[0] % sizes[1], number / (sizes[0] * sizes[1])};
    poison_shared();
    if (!(good = run_block())) break;
  }
  memcpy(error, state.error, sizeof state.error);
  free_fibers(state.idle);
  free_fibers(state.suspended);
  launch = nullptr;
  return good ? 0 : 1;
}

// ---- What Python sees: the signature and the launch of one kernel -------------------------

// One parameter: kind letter, bytes. Upper case: pointer to such; c: pointer to const.
struct Parameter { char kind; char pointer; char is_const; int bytes; };
template <class T> constexpr char kind_of() {
  if (std::is_same_v<T, bool>) return 'b';
  if (std::is_floating_point_v<T>) return 'f';
  if (std::is_integral_v<T>) return std::is_signed_v<T> ? 'i' : 'u';
  return 'V';
}
template <class T> constexpr Parameter describe() {
  if constexpr (std::is_pointer_v<T>) {
    using Element = std::remove_pointer_t<T>;
    return {kind_of<std::remove_cv_t<Element>>(), 1, std::is_const_v<Element>,
            static_cast<int>(sizeof(Element))};
  } else {
    return {kind_of<std::remove_cv_t<T>>(), 0, 0, static_cast<int>(sizeof(T))};
  }
}
template <class... A> int signature(void (*)(A...), Parameter* out) {
  int count = 0;
  ((out[count++] = describe<A>()), ...);
  return count;
}
template <class... A, size_t... I>
void call(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  kernel(*static_cast<std::decay_t<A>*>(arguments[I])...);
}
template <class... A>
int start(void (*kernel)(A...), const unsigned* sizes, int seed, void** arguments, char* error) {
  return run_grid(sizes, seed, error,
                  [=] { call(kernel, arguments, std::index_sequence_for<A...>{}); });
}

}  // namespace shim

#define SHIM_EXPORT(number, kernel) \
  extern "C" int shim_launch_##number(const unsigned* sizes, int seed, void** arguments, \
                                      char* error) { \
    return shim::start(&kernel, sizes, seed, arguments, error); \
  } \
  extern "C" int shim_signature_##number(shim::Parameter* out) { \
    return shim::signature(&kernel, out); \
  }
extern "C" long shim_shared_bytes() { return shim::__stop_cuda_shared - shim::__start_cuda_shared; }

// ---- The CUDA C that kernels use ----------------------------------------------------------

#define __global__
#define __device__
#define __host__
#define __constant__ static const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static __attribute__((section("cuda_shared")))
#define threadIdx (shim::launch->thread)
#define blockIdx (shim::launch->block)
#define blockDim (shim::launch->block_size)
#define gridDim (shim::launch->grid_size)
#define warpSize 32
#define __syncthreads() shim::barrier(__COUNTER__ + 1, __LINE__)

#define SHIM_VECTORS(scalar, name) \
  struct __attribute__((aligned(2 * sizeof(scalar)))) name##2 { scalar x, y; }; \
  struct name##3 { scalar x, y, z; }; \
  struct __attribute__((aligned(16))) name##4 { scalar x, y, z, w; }; \
  inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; } \
  inline name##3 make_##name##3(scalar x, scalar y, scalar z) { return {x, y, z}; } \
  inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }
SHIM_VECTORS(float, float)
SHIM_VECTORS(double, double)
SHIM_VECTORS(int, int)

template <class T> inline T __ldg(const T* address) { return *address; }
// CUDA's minimum and maximum of floats return the operand that is not NaN, and order -0 below +0.
template <class T> inline T shim_min(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (a != a) return b;
    if (b != b) return a;
    if (a == b) return std::signbit(a) ? a : b;
  }
  return b < a ? b : a;
}
template <class T> inline T shim_max(T a, T b) {
  if constexpr (std::is_floating_point_v<T>) {
    if (a != a) return b;
    if (b != b) return a;
    if (a == b) return std::signbit(a) ? b : a;
  }
  return a < b ? b : a;
}
template <class A, class B> inline std::common_type_t<A, B> min(A a, B b) {
  return shim_min<std::common_type_t<A, B>>(a, b);
}
template <class A, class B> inline std::common_type_t<A, B> max(A a, B b) {
  return shim_max<std::common_type_t<A, B>>(a, b);
}
#define fminf(a, b) shim_min<float>(a, b)
#define fmaxf(a, b) shim_max<float>(a, b)
#define fmin(a, b) min(a, b)
#define fmax(a, b) max(a, b)
using std::abs; using std::exp; using std::fabs; using std::floor; using std::fma; using std::log;
using std::pow; using std::rint; using std::signbit; using std::sqrt; using std::trunc;
using std::isfinite; using std::isinf; using std::isnan;
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
template <class To, class From> inline To shim_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "same width");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
inline int __float_as_int(float x) { return shim_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return shim_bits<unsigned>(x); }
inline float __int_as_float(int x) { return shim_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return shim_bits<float>(x); }
inline long long __double_as_longlong(double x) { return shim_bits<long long>(x); }
inline double __longlong_as_double(long long x) { return shim_bits<double>(x); }
