// The bioheat engine's kernels. SI units, °C; REAL is float, or double for the parity tests.
//
// Fields are (member, z, y, x) with rows of `pitch` voxels, whole warps. A thread owns a column of a
// box and marches up z, so that each voxel's heat potential along z is worked out once; the x and y
// neighbours come through the cache. No two threads of a launch write one word, and no kernel reads
// what its own launch writes in another thread's voxel.
// The law is that of law.py; tests hold the two together.

#ifndef REAL
#define REAL float
#endif

// A tissue's parameters, PARAMETERS of them per member and tissue: law.folded, then law.table.
enum {
  LATENT, FROZEN, LINEAR, SQUARE, UNFROZEN, SOURCE_1, SOURCE_2, SOURCE_3,
  SOLIDUS, WIDTH, PER_CF, PER_CU, K_FROZEN, K_UNFROZEN, PER_LATENT, PER_C, PARAMETERS
};

__device__ __forceinline__ REAL least(REAL a, REAL b) { return a < b ? a : b; }
__device__ __forceinline__ REAL most(REAL a, REAL b) { return a > b ? a : b; }
__device__ __forceinline__ REAL size_of(REAL a) { return a < REAL(0) ? -a : a; }

__device__ __forceinline__ REAL potential(REAL h, const REAL* p) {
  const REAL x = most(least(h, p[LATENT]), REAL(0)), above = most(h - p[LATENT], REAL(0));
  return p[FROZEN] * least(h, REAL(0)) + x * (p[LINEAR] + p[SQUARE] * x) + p[UNFROZEN] * above;
}

__device__ __forceinline__ REAL source(REAL h, const REAL* p) {
  const REAL x = most(least(h, p[LATENT]), REAL(0)), above = most(h - p[LATENT], REAL(0));
  return x * (p[SOURCE_1] - p[SOURCE_2] * x - p[SOURCE_3] * above);
}

__device__ __forceinline__ REAL temperature(REAL h, const REAL* p) {
  return p[SOLIDUS] + least(h, REAL(0)) * p[PER_CF] +
         most(least(h, p[LATENT]), REAL(0)) * (p[WIDTH] / p[LATENT]) +
         most(h - p[LATENT], REAL(0)) * p[PER_CU];
}

__device__ __forceinline__ REAL conductivity(REAL h, const REAL* p) {
  const REAL fraction = REAL(1) - most(least(h, p[LATENT]), REAL(0)) / p[LATENT];
  return p[K_UNFROZEN] + fraction * (p[K_FROZEN] - p[K_UNFROZEN]);
}

// ∫k dT from the solidus, of a temperature.
__device__ __forceinline__ REAL potential_of_degc(REAL t, const REAL* p) {
  const REAL above = t - p[SOLIDUS], x = least(most(above, REAL(0)), p[WIDTH]);
  const REAL mushy = x * (p[K_FROZEN] + REAL(0.5) * (x / p[WIDTH]) * (p[K_UNFROZEN] - p[K_FROZEN]));
  return p[K_FROZEN] * least(above, REAL(0)) + mushy +
         p[K_UNFROZEN] * most(above - p[WIDTH], REAL(0));
}

// Between voxel 0, which may change, and one of another tissue: two half-voxels in series, a body's
// surface coefficient in place of its own.
__device__ __forceinline__ REAL between(REAL h0, int label0, REAL h1, int label1, const REAL* par,
                                     const REAL* surface, int axis) {
  const REAL* p0 = par + label0 * PARAMETERS;
  const REAL* p1 = par + label1 * PARAMETERS;
  const REAL s1 = surface[label1 * 3 + axis];
  const REAL k0 = conductivity(h0, p0);
  const REAL k1 = s1 > REAL(0) ? s1 : conductivity(h1, p1);
  return REAL(2) * k0 * k1 / (k0 + k1) * (temperature(h1, p1) - temperature(h0, p0));
}

struct Voxel { REAL h, q; int label; };

__device__ __forceinline__ Voxel voxel_at(const REAL* h, const unsigned char* label, int at,
                                          const REAL* par) {
  Voxel v;
  v.h = h[at];
  v.label = label[at];
  v.q = potential(v.h, par + v.label * PARAMETERS);
  return v;
}

__device__ __forceinline__ REAL flux(const Voxel& a, const Voxel& b, const REAL* par,
                                     const REAL* surface, int axis) {
  if (a.label == b.label) return b.q - a.q;
  return between(a.h, a.label, b.h, b.label, par, surface, axis);
}

// ∂H/∂t of voxel `here` at (x, y): its neighbours along x and y are loaded, those along z given.
__device__ __forceinline__ REAL gain(const REAL* h, const unsigned char* label, int at, int x, int y,
                                     int nx, int ny, int pitch, const Voxel& below,
                                     const Voxel& here, const Voxel& above, const REAL* par,
                                     const REAL* surface, REAL open, REAL cx, REAL cy, REAL cz) {
  REAL along_x = 0, along_y = 0;
  if (x > 0) along_x += flux(here, voxel_at(h, label, at - 1, par), par, surface, 0);
  if (x + 1 < nx) along_x += flux(here, voxel_at(h, label, at + 1, par), par, surface, 0);
  if (y > 0) along_y += flux(here, voxel_at(h, label, at - pitch, par), par, surface, 1);
  if (y + 1 < ny) along_y += flux(here, voxel_at(h, label, at + pitch, par), par, surface, 1);
  const REAL along_z = flux(here, below, par, surface, 2) + flux(here, above, par, surface, 2);
  return open * source(here.h, par + here.label * PARAMETERS) + cx * along_x + cy * along_y +
         cz * along_z;
}

// Whether a voxel may change: not on a held outer layer.
__device__ __forceinline__ bool free_at(int x, int y, int z, int nx, int ny, int nz, int fixed) {
  if (!fixed) return true;
  return x > 0 && y > 0 && z > 0 && x + 1 < nx && y + 1 < ny && z + 1 < nz;
}

// Launch of a box: x and y by blocks of 32 × 8 columns, z by chunks of `chunk` planes and members.
#define COLUMN                                                            \
  const int x = x0 + blockIdx.x * blockDim.x + threadIdx.x;               \
  const int y = y0 + blockIdx.y * blockDim.y + threadIdx.y;               \
  const int chunks = (z1 - z0 + chunk - 1) / chunk;                       \
  const int member = blockIdx.z / chunks;                                 \
  const int z_first = z0 + (blockIdx.z % chunks) * chunk;                 \
  const int z_last = z_first + chunk < z1 ? z_first + chunk : z1;         \
  const int plane = pitch * ny;                                           \
  const long long origin = (long long)member * nz * plane;

// A member's parameters and held enthalpies (NaN: none) in shared memory, before any thread leaves.
#define MOST_TISSUES 32
#define TABLE                                                                      \
  __shared__ REAL par[MOST_TISSUES * PARAMETERS], held_of[MOST_TISSUES];           \
  const int rank = threadIdx.y * blockDim.x + threadIdx.x;                         \
  for (int i = rank; i < tissues * PARAMETERS; i += blockDim.x * blockDim.y)       \
    par[i] = par_all[member * tissues * PARAMETERS + i];                           \
  if (rank < tissues) held_of[rank] = held_all[member * tissues + rank];           \
  __syncthreads();

#define BOX int nz, int ny, int nx, int pitch, int fixed, int x0, int x1, int y0, int y1, int z0, int z1, int chunk

// rate ← ∂H/∂t of h, 0 where the outer layer or a body of given temperature rules.
extern "C" __global__ void __launch_bounds__(256, 2)
rate_of(const REAL* __restrict__ h_all, REAL* __restrict__ rate_all,
        const unsigned char* __restrict__ label, const REAL* __restrict__ par_all,
        const REAL* __restrict__ surface, const REAL* __restrict__ held_all,
        const REAL* __restrict__ open_all, int has_open, int tissues, REAL cx, REAL cy, REAL cz,
        BOX) {
  COLUMN
  TABLE
  if (x >= x1 || y >= y1) return;
  const REAL* h = h_all + origin;
  const int column = y * pitch + x;
  Voxel here = voxel_at(h, label, z_first * plane + column, par);
  Voxel below = here;
  if (z_first > 0) below = voxel_at(h, label, (z_first - 1) * plane + column, par);
  for (int z = z_first; z < z_last; ++z) {
    const int at = z * plane + column;
    Voxel above = here;
    if (z + 1 < nz) above = voxel_at(h, label, at + plane, par);
    const REAL open = has_open ? open_all[origin + at] : REAL(1);
    const REAL rate = gain(h, label, at, x, y, nx, ny, pitch, below, here, above, par, surface, open,
                           cx, cy, cz);
    const REAL held = held_of[here.label];
    const bool rules = held == held || !free_at(x, y, z, nx, ny, nz, fixed);
    rate_all[origin + at] = rules ? REAL(0) : rate;
    below = here;
    here = above;
  }
}

// Per block: peak, the largest |∂H/∂t| per latent heat (1/s), and flow, the largest °C/s other than
// from blood and metabolism, which say how far to step and where heat has reached.
extern "C" __global__ void __launch_bounds__(256)
survey(const REAL* __restrict__ h, const REAL* __restrict__ rate_all,
       const unsigned char* __restrict__ label, const REAL* __restrict__ par_all,
       const REAL* __restrict__ open_all, int has_open, int tissues, REAL* __restrict__ peak,
       REAL* __restrict__ flow, BOX) {
  __shared__ REAL peaks[256], flows[256];
  COLUMN
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  REAL fastest = 0, moving = 0;
  if (x < x1 && y < y1) {
    for (int z = z_first; z < z_last; ++z) {
      const int at = z * plane + y * pitch + x;
      const REAL* p = par_all + (member * tissues + label[at]) * PARAMETERS;
      const REAL rate = rate_all[origin + at], here = h[origin + at];
      const REAL open = has_open ? open_all[origin + at] : REAL(1);
      const REAL still = here > p[LATENT] ? open * source(here, p) : REAL(0);
      fastest = most(fastest, size_of(rate) * p[PER_LATENT]);
      if (rate != REAL(0)) moving = most(moving, size_of(rate - still) * p[PER_C]);
    }
  }
  peaks[thread] = fastest;
  flows[thread] = moving;
  __syncthreads();
  for (int half = 128; half > 0; half /= 2) {
    if (thread < half) {
      peaks[thread] = most(peaks[thread], peaks[thread + half]);
      flows[thread] = most(flows[thread], flows[thread + half]);
    }
    __syncthreads();
  }
  if (thread == 0) {
    const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    peak[block] = peaks[0];
    flow[block] = flows[0];
  }
}

// a ← h0 + factor·rate0, b ← h0; bodies of given temperature in a ← held.
extern "C" __global__ void __launch_bounds__(256)
first_stage(const REAL* __restrict__ h0, const REAL* __restrict__ rate0, REAL* __restrict__ a,
            REAL* __restrict__ b, const unsigned char* __restrict__ label,
            const REAL* __restrict__ held_all, int tissues, REAL factor, BOX) {
  COLUMN
  if (x >= x1 || y >= y1) return;
  for (int z = z_first; z < z_last; ++z) {
    const int at = z * plane + y * pitch + x;
    const REAL start = h0[origin + at], held = held_all[member * tissues + label[at]];
    a[origin + at] = held == held ? held : start + factor * rate0[origin + at];
    b[origin + at] = start;
  }
}

// One stage: `out` holds the stage before h and receives the next (see law.Stages).
extern "C" __global__ void __launch_bounds__(256, 2)
stage(const REAL* __restrict__ h_all, REAL* __restrict__ out_all, const REAL* __restrict__ h0_all,
      const REAL* __restrict__ rate0_all, const unsigned char* __restrict__ label,
      const REAL* __restrict__ par_all, const REAL* __restrict__ surface,
      const REAL* __restrict__ held_all, const REAL* __restrict__ open_all, int has_open, int tissues,
      REAL cx, REAL cy, REAL cz, REAL mu, REAL nu, REAL now, REAL rest, BOX) {
  COLUMN
  TABLE
  if (x >= x1 || y >= y1) return;
  const REAL* h = h_all + origin;
  const int column = y * pitch + x;
  Voxel here = voxel_at(h, label, z_first * plane + column, par);
  Voxel below = here;
  if (z_first > 0) below = voxel_at(h, label, (z_first - 1) * plane + column, par);
  for (int z = z_first; z < z_last; ++z) {
    const int at = z * plane + column;
    Voxel above = here;
    if (z + 1 < nz) above = voxel_at(h, label, at + plane, par);
    const REAL held = held_of[here.label];
    if (held == held) {
      out_all[origin + at] = held;
    } else if (free_at(x, y, z, nx, ny, nz, fixed)) {
      const REAL open = has_open ? open_all[origin + at] : REAL(1);
      const REAL rate = gain(h, label, at, x, y, nx, ny, pitch, below, here, above, par, surface,
                             open, cx, cy, cz);
      const REAL start = h0_all[origin + at], before = out_all[origin + at];
      const REAL change = mu * (here.h - start) + nu * (before - start);
      const REAL next = start + (change + now * rate + rest * rate0_all[origin + at]);
      out_all[origin + at] = next;
    }
    below = here;
    here = above;
  }
}

// The shaft's temperature that balances cryogen and tissue: needles.surface_of_cryogen_degc.
__device__ __forceinline__ REAL surface_of_cryogen(REAL seen, REAL cryogen, REAL contact, REAL shape,
                                   const REAL* share, const REAL* par, int tissues) {
  REAL low = REAL(-273.15), high = REAL(1000), t = cryogen;
  for (int i = 0; i < 20; ++i) {
    REAL theta = 0, slope = 0;
    for (int label = 0; label < tissues; ++label) {
      const REAL* p = par + label * PARAMETERS;
      const REAL inside = least(most((t - p[SOLIDUS]) / p[WIDTH], REAL(0)), REAL(1));
      theta += share[label] * potential_of_degc(t, p);
      slope += share[label] * (p[K_FROZEN] + inside * (p[K_UNFROZEN] - p[K_FROZEN]));
    }
    const REAL excess = contact * (t - cryogen) - shape * (seen - theta);
    if (excess > REAL(0)) high = t; else low = t;
    t = t - excess / (contact + shape * slope);
    if (!(low <= t && t <= high)) t = REAL(0.5) * (low + high);
  }
  return t;
}

enum { SURFACE, COOLING, CRYOGEN };

// The heat each piece of shaft draws, W/m³ at weight 1: one block of 128 threads a piece and member.
extern "C" __global__ void __launch_bounds__(128)
piece_heat(const REAL* __restrict__ h_all, const unsigned char* __restrict__ label,
           const REAL* __restrict__ par_all, const int* __restrict__ start,
           const int* __restrict__ voxel, const REAL* __restrict__ weight,
           const int* __restrict__ needle, const int* __restrict__ kind,
           const REAL* __restrict__ value, const REAL* __restrict__ duty,
           const REAL* __restrict__ cooling, const REAL* __restrict__ shape,
           const REAL* __restrict__ strength, const REAL* __restrict__ contact,
           const REAL* __restrict__ share, REAL* __restrict__ heat, int pieces, int tissues,
           long long voxels) {
  __shared__ REAL sums[128];
  const int piece = blockIdx.x, member = blockIdx.y;
  const REAL* h = h_all + member * voxels;
  const REAL* par = par_all + member * tissues * PARAMETERS;
  REAL sum = 0;
  for (int i = start[piece] + threadIdx.x; i < start[piece + 1]; i += 128) {
    const int at = voxel[i];
    sum += weight[i] * potential(h[at], par + label[at] * PARAMETERS);
  }
  sums[threadIdx.x] = sum;
  __syncthreads();
  for (int half = 64; half > 0; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x != 0) return;
  const int n = needle[piece];
  const REAL effort = duty[n] * cooling[member * pieces + piece];
  REAL drawn = 0;
  if (value[n] == value[n] && effort > REAL(0)) {
    const REAL* of = share + piece * tissues;
    if (kind[n] == COOLING) {
      drawn = effort * value[n];
    } else if (kind[n] == CRYOGEN) {
      const REAL through = effort * contact[piece];
      drawn = through * (surface_of_cryogen(sums[0], value[n], through, shape[piece], of, par,
                                            tissues) - value[n]);
    } else {
      REAL theta = 0;
      for (int t = 0; t < tissues; ++t)
        theta += of[t] * potential_of_degc(value[n], par + t * PARAMETERS);
      drawn = effort * shape[piece] * (sums[0] - theta);
    }
  }
  heat[member * pieces + piece] = drawn * strength[piece];
}

// out −= scale · the heat of the pieces that touch a voxel; a thread per touched voxel and member.
extern "C" __global__ void __launch_bounds__(128)
draw(REAL* __restrict__ out, const REAL* __restrict__ heat, const int* __restrict__ voxel,
     const int* __restrict__ start, const int* __restrict__ piece, const REAL* __restrict__ weight,
     const REAL* __restrict__ free, REAL scale, int touched, int pieces, long long voxels) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, member = blockIdx.y;
  if (i >= touched) return;
  REAL drawn = 0;
  for (int k = start[i]; k < start[i + 1]; ++k)
    drawn += weight[k] * heat[member * pieces + piece[k]];
  out[member * voxels + voxel[i]] -= scale * free[i] * drawn;
}

__device__ __forceinline__ REAL share_below(REAL limit, REAL before, REAL after) {
  const REAL cold = least(before, after), span = most(before, after) - cold + REAL(1e-6);
  return least(most((limit - cold) / span, REAL(0)), REAL(1));
}

// What a step that ended at `time` did: stasis (until when blood is off) and history.
extern "C" __global__ void __launch_bounds__(256)
remember(const REAL* __restrict__ before, const REAL* __restrict__ after,
         const unsigned char* __restrict__ label, const REAL* __restrict__ par_all, int tissues,
         float time, float step, float stasis, int has_back, float* __restrict__ back,
         REAL* __restrict__ open, int has_past, float* __restrict__ lowest,
         float* __restrict__ below_20, float* __restrict__ below_40,
         unsigned char* __restrict__ cycles, BOX) {
  COLUMN
  if (x >= x1 || y >= y1) return;
  for (int z = z_first; z < z_last; ++z) {
    const int at = z * plane + y * pitch + x;
    const long long i = origin + at;
    const REAL* p = par_all + (member * tissues + label[at]) * PARAMETERS;
    const REAL h0 = before[i], h1 = after[i], half = REAL(0.5) * p[LATENT];
    if (has_back) {
      if (h1 <= half) back[i] = time + stasis;
      open[i] = time >= back[i] ? REAL(1) : REAL(0);
    }
    if (has_past) {
      const REAL t0 = temperature(h0, p), t1 = temperature(h1, p);
      lowest[i] = least(lowest[i], t1);
      below_20[i] += step * share_below(REAL(-20), t0, t1);
      below_40[i] += step * share_below(REAL(-40), t0, t1);
      if (h1 <= half && h0 > half) cycles[i] += 1;
    }
  }
}

// What blood and metabolism did to thawed voxels of a box that heat had not reached: those in it but
// not in the inner box (a0…, empty when a0 ≥ a1). keep, rest (member, tissue): above ← rest +
// (above − rest)·keep, or with keep = 1 above + rest.
extern "C" __global__ void __launch_bounds__(256)
settle(REAL* __restrict__ h, const unsigned char* __restrict__ label,
       const REAL* __restrict__ par_all, const REAL* __restrict__ keep_all,
       const REAL* __restrict__ rest_all, const REAL* __restrict__ held_all,
       const REAL* __restrict__ open, int has_open, int tissues, int a0, int a1, int b0, int b1,
       int c0, int c1, BOX) {
  COLUMN
  if (x >= x1 || y >= y1) return;
  for (int z = z_first; z < z_last; ++z) {
    if (x >= a0 && x < a1 && y >= b0 && y < b1 && z >= c0 && z < c1) continue;
    if (!free_at(x, y, z, nx, ny, nz, fixed)) continue;
    const int at = z * plane + y * pitch + x, tissue = member * tissues + label[at];
    const REAL latent = par_all[tissue * PARAMETERS + LATENT];
    const REAL above = h[origin + at] - latent, held = held_all[tissue];
    if (held == held || above <= REAL(0) || (has_open && open[origin + at] == REAL(0))) continue;
    const REAL keep = keep_all[tissue], rest = rest_all[tissue];
    h[origin + at] += keep < REAL(1) ? (rest - above) * (REAL(1) - keep) : rest;
  }
}
