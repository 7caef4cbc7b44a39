//! Adding up gradients over the ranks, in buckets.
//!
//! Gradients are copied into buckets of about 25 MB, from the last parameter to the first, and each full bucket goes to a
//! thread that reduces it while the next one is filled and an earlier one is copied back: three buckets are under way.
//!
//! The reduction begins when the backward pass is over, not during it. A reduction during it needs to know when a
//! parameter's gradient is complete; libtorch tells that to hooks on its gradient accumulators, which are part of its
//! C++ interface only: the C interface that tch binds has none. Looking at gradients from another thread meanwhile would
//! be a data race, and cutting the pass into pieces would repeat the forward pass or keep its graph. With accumulation
//! the gradients of all micro-batches are summed on each rank first and cross the network once a step: reducing after
//! each micro-batch would move the same sum in several times the bytes.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tch::{Kind, Tensor};

use super::{CommError, Ranks};

/// Bytes of gradients that are reduced at once: long enough that latency does not count, short enough that the first
/// bucket is under way while others are filled. A larger gradient has a bucket of its own.
pub const BUCKET_BYTES: usize = 25 << 20;

/// Buckets under way: one that is filled, one that is reduced, one that is emptied.
const SLOTS: usize = 3;

/// The gradients of some parameters.
#[derive(Debug)]
pub struct Gradients {
    parameters: Vec<Tensor>,
    /// Numbers of parameters.
    buckets: Vec<Vec<usize>>,
    /// Contiguous f32 on the parameters' device, each as long as the largest bucket; made when first needed.
    slots: Vec<Tensor>,
}

impl Gradients {
    /// Of parameters that have the same order on all ranks; they share their storage with these.
    pub fn new(parameters: Vec<Tensor>, bucket_bytes: usize) -> Gradients {
        let sizes: Vec<usize> = parameters.iter().map(Tensor::numel).collect();
        let buckets = plan(&sizes, bucket_bytes / size_of::<f32>());
        Gradients { parameters, buckets, slots: Vec::new() }
    }

    /// How many buckets there are.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Replaces every gradient by the sum over all ranks. A parameter without gradient on one rank counts as zero there,
    /// and gets one; without gradient on any it stays without.
    ///
    /// # Errors
    /// [`CommError`]; the gradients are then of no use.
    pub fn sum(&mut self, ranks: &Ranks) -> Result<(), CommError> {
        if ranks.size() == 1 {
            return Ok(());
        }
        let defined = self.defined_anywhere(ranks)?;
        if self.slots.is_empty() {
            self.slots = self.make_slots();
        }
        let (filled, to_reduce) = channel::<(usize, Tensor)>();
        let (reduced, to_empty) = channel();
        let free = std::mem::take(&mut self.slots);
        let slots = thread::scope(|scope| {
            scope.spawn(move || {
                for (bucket, mut slot) in to_reduce {
                    let done = ranks.sum_tensor(&mut slot).map(|()| (bucket, slot));
                    let failed = done.is_err();
                    if reduced.send(done).is_err() || failed {
                        return;
                    }
                }
            });
            self.fill_and_empty(&defined, free, filled, &to_empty)
        })?;
        self.slots = slots;
        Ok(())
    }

    /// Fills bucket after bucket, and empties those that come back, until all have.
    fn fill_and_empty(
        &self,
        defined: &[bool],
        mut free: Vec<Tensor>,
        filled: Sender<(usize, Tensor)>,
        to_empty: &Receiver<Result<(usize, Tensor), CommError>>,
    ) -> Result<Vec<Tensor>, CommError> {
        let used = |&bucket: &usize| self.members(bucket, defined).next().is_some();
        for bucket in (0..self.buckets.len()).filter(used) {
            while let Ok(reduced) = to_empty.try_recv() {
                free.push(self.emptied(reduced?, defined));
            }
            let slot = match free.pop() {
                Some(slot) => slot,
                None => match to_empty.recv() {
                    Ok(reduced) => self.emptied(reduced?, defined),
                    // The thread ends early only after it has sent an error.
                    Err(_) => break,
                },
            };
            let slot = self.fill(bucket, slot, defined);
            if filled.send((bucket, slot)).is_err() {
                break;
            }
        }
        drop(filled);
        for reduced in to_empty {
            free.push(self.emptied(reduced?, defined));
        }
        Ok(free)
    }

    /// Copies a bucket's gradients in; returns the part of the slot that it needs.
    fn fill(&self, bucket: usize, slot: Tensor, defined: &[bool]) -> Tensor {
        let mut at = 0;
        for parameter in self.members(bucket, defined) {
            let (length, gradient) = (parameter.numel() as i64, parameter.grad());
            let mut place = slot.narrow(0, at, length);
            match gradient.defined() {
                true => place.copy_(&gradient.reshape([-1])),
                false => drop(place.zero_()),
            }
            at += length;
        }
        slot.narrow(0, 0, at)
    }

    /// Copies a bucket's sums out; returns the whole slot.
    fn emptied(&self, (bucket, sums): (usize, Tensor), defined: &[bool]) -> Tensor {
        let mut at = 0;
        for parameter in self.members(bucket, defined) {
            let length = parameter.numel() as i64;
            let sum = sums.narrow(0, at, length).view(parameter.size().as_slice());
            gradient(parameter).copy_(&sum);
            at += length;
        }
        whole(&sums, self.longest())
    }

    fn members(&self, bucket: usize, defined: &[bool]) -> impl Iterator<Item = &Tensor> {
        self.buckets[bucket]
            .iter()
            .filter(|&&number| defined[number])
            .map(|&number| &self.parameters[number])
    }

    fn defined_anywhere(&self, ranks: &Ranks) -> Result<Vec<bool>, CommError> {
        let here = |parameter: &Tensor| f32::from(u8::from(parameter.grad().defined()));
        let mut ranks_with: Vec<f32> = self.parameters.iter().map(here).collect();
        ranks.sum(&mut ranks_with)?;
        Ok(ranks_with.into_iter().map(|ranks| ranks > 0.0).collect())
    }

    fn make_slots(&self) -> Vec<Tensor> {
        let Some(first) = self.parameters.first() else { return Vec::new() };
        let slot = || Tensor::zeros([self.longest()], (Kind::Float, first.device()));
        (0..SLOTS.min(self.buckets.len())).map(|_| slot()).collect()
    }

    /// Values in the largest bucket.
    fn longest(&self) -> i64 {
        let values = |bucket: &Vec<usize>| -> usize {
            bucket.iter().map(|&number| self.parameters[number].numel()).sum()
        };
        self.buckets.iter().map(values).max().unwrap_or(0) as i64
    }
}

/// A slot of which `part` is the beginning.
fn whole(part: &Tensor, length: i64) -> Tensor {
    part.as_strided([length], [1], 0)
}

/// A parameter's gradient; zeros if it has none yet.
fn gradient(parameter: &Tensor) -> Tensor {
    let gradient = parameter.grad();
    if gradient.defined() {
        return gradient;
    }
    // tch cannot set a gradient; a backward pass can.
    tch::with_grad(|| (parameter * 0.0).sum(Kind::Float).backward());
    let mut gradient = parameter.grad();
    // 0 × Inf, should a weight be that, is no zero.
    let _ = gradient.zero_();
    gradient
}

/// Numbers of parameters, bucket by bucket, from the last to the first: about the order in which the backward pass
/// completes their gradients. A bucket holds at most `longest` values, or a single parameter.
fn plan(sizes: &[usize], longest: usize) -> Vec<Vec<usize>> {
    let mut buckets: Vec<Vec<usize>> = Vec::new();
    let mut room = 0;
    for (number, &size) in sizes.iter().enumerate().rev() {
        match buckets.last_mut() {
            Some(bucket) if size <= room => {
                bucket.push(number);
                room -= size;
            }
            _ => {
                buckets.push(vec![number]);
                room = longest.saturating_sub(size);
            }
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tch::Device;

    use super::*;
    use crate::train::distributed::local;

    #[test]
    fn buckets_hold_every_parameter_once_from_the_last_to_the_first() {
        let buckets = plan(&[4, 50, 3, 3, 4, 0], 10);
        assert_eq!(buckets, [vec![5, 4, 3, 2], vec![1], vec![0]]);
        assert!(plan(&[], 10).is_empty());
    }

    fn numbers(size: i64, from: f64) -> Tensor {
        Tensor::arange_start(from, from + size as f64, (Kind::Float, Device::Cpu))
    }

    /// Parameters whose gradient on a rank is known; the second has one on rank 1 only, the third on none.
    fn parameters(rank: usize) -> Vec<Tensor> {
        let shapes: [&[i64]; 5] = [&[2, 3], &[4], &[5], &[7, 1, 2], &[1]];
        let parameters: Vec<Tensor> = shapes
            .iter()
            .map(|shape| Tensor::ones(*shape, (Kind::Float, Device::Cpu)).set_requires_grad(true))
            .collect();
        for (number, parameter) in parameters.iter().enumerate() {
            if number != 2 && (number != 1 || rank == 1) {
                let slope = numbers(parameter.numel() as i64, (10 * rank + number) as f64);
                (parameter * slope.view(parameter.size().as_slice())).sum(Kind::Float).backward();
            }
        }
        parameters
    }

    #[test]
    fn gradients_are_summed_whatever_the_size_of_buckets_and_where_they_are_missing() {
        for bytes in [4, 60, 1 << 20] {
            let sums = thread::scope(|scope| {
                let threads: Vec<_> = local(2)
                    .into_iter()
                    .enumerate()
                    .map(|(rank, communicator)| {
                        scope.spawn(move || {
                            let parameters = parameters(rank);
                            let shared = parameters.iter().map(Tensor::shallow_clone).collect();
                            let mut gradients = Gradients::new(shared, bytes);
                            let ranks = Ranks::new(Arc::new(communicator));
                            gradients.sum(&ranks).unwrap();
                            assert!(!parameters[2].grad().defined());
                            assert_eq!(parameters[0].grad().size(), [2, 3]);
                            [0, 1, 3, 4].map(|number| {
                                Vec::<f32>::try_from(parameters[number].grad().view(-1)).unwrap()
                            })
                        })
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
            });
            assert_eq!(sums[0], sums[1]);
            let expected: [Tensor; 4] = [
                numbers(6, 0.0) + numbers(6, 10.0),
                numbers(4, 11.0),
                numbers(14, 3.0) + numbers(14, 13.0),
                numbers(1, 4.0) + numbers(1, 14.0),
            ];
            for (sum, expected) in sums[0].iter().zip(expected) {
                assert_eq!(
                    *sum,
                    Vec::<f32>::try_from(expected).unwrap(),
                    "buckets of {bytes} bytes"
                );
            }
        }
    }

    #[test]
    fn a_second_step_reduces_what_is_new_and_one_rank_changes_nothing() {
        let parameters = parameters(1);
        let before = parameters[0].grad().copy();
        let mut gradients = Gradients::new(parameters, 60);
        gradients.sum(&Ranks::single()).unwrap();
        assert_eq!(gradients.parameters[0].grad(), before);
        thread::scope(|scope| {
            for communicator in local(2) {
                scope.spawn(move || {
                    let ranks = Ranks::new(Arc::new(communicator));
                    let parameter =
                        Tensor::ones([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
                    let mut gradients = Gradients::new(vec![parameter.shallow_clone()], 60);
                    for _ in 0..2 {
                        parameter.shallow_clone().zero_grad();
                        parameter.sum(Kind::Float).backward();
                        gradients.sum(&ranks).unwrap();
                        assert_eq!(Vec::<f32>::try_from(parameter.grad()).unwrap(), [2.0; 3]);
                    }
                });
            }
        });
    }
}
