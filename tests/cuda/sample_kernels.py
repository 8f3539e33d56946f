"""Small kernels on which the tools themselves are tested, with bugs that a define plants."""

STENCIL = r"""
#ifndef REAL
#define REAL float
#endif
#define BX 16
#define BY 4
typedef REAL real;

__device__ __forceinline__ real flux(real here, real there, real conductance) {
  return conductance * (there - here);
}

// 7-point stencil, insulated faces: tiles of BX x BY voxels, marching along z.
extern "C" __global__ void __launch_bounds__(BX * BY)
stencil(const real* __restrict__ in, real* __restrict__ out, int nx, int ny, int nz, real c) {
  __shared__ real tile[BY + 2][BX + 2];
  const int tx = threadIdx.x + 1, ty = threadIdx.y + 1;
  const int x = blockIdx.x * BX + threadIdx.x, y = blockIdx.y * BY + threadIdx.y;
  const int xc = min(x, nx - 1), yc = min(y, ny - 1);
  const int plane = nx * ny;
#ifdef BUG_DIVERGENT
  if (x >= nx || y >= ny) return;
#endif
  for (int z = 0; z < nz; ++z) {
    const real* p = in + z * plane;
    const real here = p[yc * nx + xc];
    tile[ty][tx] = here;
    if (threadIdx.x == 0) tile[ty][0] = p[yc * nx + max(xc - 1, 0)];
    if (threadIdx.x == BX - 1) tile[ty][BX + 1] = p[yc * nx + min(x + 1, nx - 1)];
    if (threadIdx.y == 0) tile[0][tx] = p[max(yc - 1, 0) * nx + xc];
#ifdef BUG_OUT_OF_BOUNDS
    if (threadIdx.y == BY - 1) tile[BY + 1][tx] = p[(y + 1) * nx + xc];
#elif defined(BUG_SHARED_OUT_OF_BOUNDS)
    if (threadIdx.y == BY - 1) tile[BY + 2][tx] = p[min(y + 1, ny - 1) * nx + xc];
#else
    if (threadIdx.y == BY - 1) tile[BY + 1][tx] = p[min(y + 1, ny - 1) * nx + xc];
#endif
#ifndef BUG_RACE
    __syncthreads();
#endif
    if (x < nx && y < ny) {
      const int right = x < nx - 1 ? tx + 1 : tx, lower = y < ny - 1 ? ty + 1 : ty;
      real sum = flux(here, tile[ty][tx - 1], c) + flux(here, tile[ty][right], c);
      sum += flux(here, tile[ty - 1][tx], c) + flux(here, tile[lower][tx], c);
      if (z > 0) sum += flux(here, p[yc * nx + xc - plane], c);
      if (z < nz - 1) sum += flux(here, p[yc * nx + xc + plane], c);
      out[z * plane + yc * nx + xc] = here + (real)0.5 * sum;
    }
    __syncthreads();
  }
}
"""

REDUCTION = r"""
#ifndef REAL
#define REAL float
#endif
typedef REAL real;
#define THREADS 128

// Sum and largest of each block's part of values.
extern "C" __global__ void reduce(const real* __restrict__ values, real* __restrict__ sums,
                                  real* __restrict__ largest, unsigned count) {
  __shared__ real sum[THREADS];
  __shared__ real top[THREADS];
  const unsigned t = threadIdx.x, i = blockIdx.x * THREADS + t;
  sum[t] = i < count ? values[i] : (real)0;
  top[t] = i < count ? values[i] : -(real)1e30;
  __syncthreads();
  for (unsigned half = THREADS / 2; half > 0; half /= 2) {
    if (t < half) {
      sum[t] += sum[t + half];
      top[t] = max(top[t], top[t + half]);
    }
#ifndef BUG_RACE
    __syncthreads();
#endif
  }
  if (t == 0) {
    sums[blockIdx.x] = sum[0];
    largest[blockIdx.x] = top[0];
  }
}
"""

# A load one element past the array whose value is not used: no result shows it.
UNUSED_READ = r"""
extern "C" __global__ void shift(const float* in, float* out, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  float next = ((volatile const float*)in)[i + 1];
  out[i] = i + 1 < n ? next : 0.0f;
}
"""

IN_PLACE = r"""
extern "C" __global__ void blur(float* values, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i > 0 && i < n) values[i] = 0.5f * (values[i] + values[i - 1]);
}
"""
