//! Dropout that costs what writing its mask costs.
//!
//! libtorch draws masks on the processor at 6 to 10 ns an element, slower than many of the matrix products around them. Here
//! the masks come from SplitMix64, seeded by one number of libtorch's generator: they depend on `tch::manual_seed` alone,
//! whatever the number of threads. On other devices libtorch's own dropout is used.

use half::bf16;
use rand::RngCore;
use rand::SeedableRng;
use rand_xoshiro::SplitMix64;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Elements with a generator of their own.
const CHUNK: usize = 1 << 16;
/// Random bits that are drawn at once; each element takes 16 of them.
const DRAWN: usize = 4096;

/// Sets elements to 0 with probability `p` and scales the others up, if `train` is set.
pub(crate) fn dropout(x: &Tensor, p: f64, train: bool) -> Tensor {
    match mask(x, p, train) {
        Mask::None => x.shallow_clone(),
        Mask::Own(mask) => x * mask,
        Mask::Libtorch => x.dropout(p, true),
    }
}

/// `residual + dropout(x)`.
pub(crate) fn add_dropped(residual: &Tensor, x: &Tensor, p: f64, train: bool) -> Tensor {
    match mask(x, p, train) {
        Mask::None => residual + x,
        Mask::Own(mask) => residual.addcmul(x, &mask),
        Mask::Libtorch => residual + x.dropout(p, true),
    }
}

enum Mask {
    /// Nothing is dropped.
    None,
    /// 0 or the scale, shaped like the tensor.
    Own(Tensor),
    /// Where memory cannot be written from here.
    Libtorch,
}

fn mask(x: &Tensor, p: f64, train: bool) -> Mask {
    if !train || p == 0.0 {
        return Mask::None;
    }
    let seed =
        || Tensor::randint(i64::MAX, [1], (Kind::Int64, Device::Cpu)).int64_value(&[0]) as u64;
    let of_kind = || Tensor::empty(x.size(), (x.kind(), Device::Cpu));
    match (x.device(), x.kind()) {
        (Device::Cpu, Kind::Float) => {
            let mask = of_kind();
            fill(elements::<f32>(&mask), p, seed(), |scale| scale);
            Mask::Own(mask)
        }
        (Device::Cpu, Kind::BFloat16) => {
            let mask = of_kind();
            fill(elements::<bf16>(&mask), p, seed(), bf16::from_f32);
            Mask::Own(mask)
        }
        _ => Mask::Libtorch,
    }
}

/// The memory of a tensor that was just made.
#[allow(clippy::mut_from_ref)]
fn elements<T>(fresh: &Tensor) -> &mut [T] {
    // SAFETY: the tensor was made by `empty` with elements of T's size: contiguous, of `numel` elements, and nobody else has
    // seen it yet. It outlives the slice, which borrows it.
    unsafe { std::slice::from_raw_parts_mut(fresh.data_ptr().cast(), fresh.numel()) }
}

fn fill<T: Copy + Default + Send + Sync>(mask: &mut [T], p: f64, seed: u64, of: fn(f32) -> T) {
    // 16 bits an element: p is met within 2^-17, and the scale belongs to what is really kept.
    let dropped = ((p * 65536.0).round() as u32).clamp(0, 65535) as u16;
    let scale = of((1.0 / (1.0 - f64::from(dropped) / 65536.0)) as f32);
    let fill_chunk = |(number, chunk): (usize, &mut [T])| {
        let mut random = SplitMix64::seed_from_u64(seed.wrapping_add(number as u64));
        let mut bits = [0u16; DRAWN];
        for part in chunk.chunks_mut(DRAWN) {
            random.fill_bytes(bytemuck::cast_slice_mut(&mut bits));
            for (element, &bits) in part.iter_mut().zip(&bits) {
                *element = if bits >= dropped { scale } else { T::default() };
            }
        }
    };
    if mask.len() <= CHUNK {
        fill_chunk((0, mask));
    } else {
        mask.par_chunks_mut(CHUNK).enumerate().for_each(fill_chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ones(kind: Kind) -> Tensor {
        Tensor::ones([3, 70_001], (kind, Device::Cpu))
    }

    #[test]
    fn a_tenth_is_dropped_and_the_mean_stays() {
        for kind in [Kind::Float, Kind::BFloat16] {
            tch::manual_seed(3);
            let kept = dropout(&ones(kind), 0.1, true).to_kind(Kind::Double);
            let zeros = kept.eq(0.0).to_kind(Kind::Double).mean(Kind::Double).double_value(&[]);
            assert!((zeros - 0.1).abs() < 0.003, "{zeros}");
            assert!((kept.mean(Kind::Double).double_value(&[]) - 1.0).abs() < 0.005);
            // Rows have different masks, and so have calls.
            assert!(!kept.get(0).equal(&kept.get(1)));
            assert!(!kept.equal(&dropout(&ones(kind), 0.1, true).to_kind(Kind::Double)));
        }
    }

    #[test]
    fn neighbouring_chunks_have_nothing_in_common() {
        let mut mask = vec![0f32; 2 * CHUNK];
        fill(&mut mask, 0.5, 7, |scale| scale);
        let (a, b) = mask.split_at(CHUNK);
        let equal = a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / CHUNK as f64;
        assert!((equal - 0.5).abs() < 0.01, "{equal}");
    }

    #[test]
    fn masks_are_a_function_of_the_seed() {
        // libtorch's own generator is shared by all tests that run at the same time.
        let draw = |seed| {
            let mut mask = vec![0f32; CHUNK];
            fill(&mut mask, 0.3, seed, |scale| scale);
            mask
        };
        assert!(draw(11) == draw(11) && draw(11) != draw(12));
    }

    #[test]
    fn gradients_pass_where_values_do() {
        let x = ones(Kind::Float).set_requires_grad(true);
        let y = add_dropped(&x.detach().zeros_like(), &x, 0.1, true);
        y.sum(Kind::Float).backward();
        assert!(y.detach().equal(&x.grad()));
    }

    #[test]
    fn without_training_nothing_changes() {
        let x = ones(Kind::Float);
        assert!(dropout(&x, 0.9, false).equal(&x) && dropout(&x, 0.0, true).equal(&x));
    }
}
