//! Adding up gradients over the ranks, in buckets, while the backward pass goes on.
//!
//! The backward pass runs in segments (see [`RankingModel`](crate::model::RankingModel)), the last one first, and tells
//! when it has done with one: its parameters' gradients are complete. They are copied into buckets of about 25 MB, from
//! the last parameter to the first, and each full bucket goes to a thread that reduces it while the pass computes the next
//! segments; those that come back are copied out in between. Up to three buckets are under way.
//!
//! With accumulation the gradients of all micro-batches are summed on each rank first and cross the network once a step,
//! during the backward pass of the last one.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use tch::{Kind, Tensor};

use super::{CommError, Ranks};

/// Most bytes of gradients that are reduced at once: long enough that latency does not count, short enough that the first
/// bucket is under way while others are filled. A larger gradient has a bucket of its own.
pub const BUCKET_BYTES: usize = 25 << 20;

/// Least number of buckets, as far as there are parameters for them: of a small model, too, most gradients are reduced
/// during the backward pass.
const BUCKETS: usize = 16;

/// Buckets under way: one that is filled, one that is reduced, one that is emptied.
const SLOTS: usize = 3;

/// The gradients of some parameters.
#[derive(Debug)]
pub struct Gradients {
    parameters: Vec<Tensor>,
    buckets: Vec<Bucket>,
    /// Contiguous f32 on the parameters' device, each as long as the largest bucket; made when first needed.
    slots: Vec<Tensor>,
}

/// Parameters whose gradients are reduced at once.
#[derive(Debug, PartialEq, Eq)]
struct Bucket {
    /// Numbers of parameters.
    members: Vec<usize>,
    /// The first segment that one of them belongs to: when the backward pass has done with it, all are complete.
    segment: usize,
}

impl Gradients {
    /// Of parameters with the number of the segment that each belongs to, in an order that is the same on all ranks; they
    /// share their storage with these.
    pub fn new(parameters: Vec<(usize, Tensor)>) -> Gradients {
        let values: usize = parameters.iter().map(|(_, parameter)| parameter.numel()).sum();
        Gradients::in_buckets(parameters, BUCKET_BYTES.min(values * size_of::<f32>() / BUCKETS))
    }

    fn in_buckets(mut parameters: Vec<(usize, Tensor)>, bucket_bytes: usize) -> Gradients {
        parameters.sort_by_key(|(segment, _)| *segment);
        let sizes: Vec<(usize, usize)> =
            parameters.iter().map(|(segment, parameter)| (*segment, parameter.numel())).collect();
        let buckets = plan(&sizes, bucket_bytes / size_of::<f32>());
        let parameters = parameters.into_iter().map(|(_, parameter)| parameter).collect();
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
        self.sum_during(ranks, |_| Ok(()))
    }

    /// The same while a backward pass goes on: it says which segment it has done with, from the last to the first; what
    /// it does not speak of is summed when it is over.
    ///
    /// # Errors
    /// The pass's own, or [`CommError`]; the gradients are then of no use.
    pub fn sum_during<T, E: From<CommError>>(
        &mut self,
        ranks: &Ranks,
        pass: impl FnOnce(&mut dyn FnMut(usize)) -> Result<T, E>,
    ) -> Result<T, E> {
        if ranks.size() == 1 {
            return pass(&mut |_| ());
        }
        if self.slots.is_empty() {
            self.slots = self.make_slots();
        }
        let free = std::mem::take(&mut self.slots);
        let (filled, to_reduce) = channel::<(usize, Tensor)>();
        let (reduced, to_empty) = channel();
        let (done, slots) = thread::scope(|scope| {
            scope.spawn(move || {
                for (bucket, mut slot) in to_reduce {
                    let done = ranks.sum_tensor(&mut slot).map(|()| (bucket, slot));
                    let failed = done.is_err();
                    if reduced.send(done).is_err() || failed {
                        return;
                    }
                }
            });
            let mut flow = Flow { gradients: self, next: 0, free, filled, to_empty, lost: None };
            let done = pass(&mut |segment| flow.fill_from(segment))?;
            Ok::<_, E>((done, flow.finish()?))
        })?;
        self.slots = slots;
        Ok(done)
    }

    /// Copies a bucket's gradients in, and which there are; returns the part of the slot that it needs.
    fn fill(&self, bucket: usize, slot: Tensor) -> Tensor {
        let mut at = 0;
        for parameter in self.members(bucket) {
            let (length, gradient) = (parameter.numel() as i64, parameter.grad());
            let (mut place, mut there) =
                (slot.narrow(0, at, length), slot.narrow(0, at + length, 1));
            match gradient.defined() {
                true => place.copy_(&gradient.reshape([-1])),
                false => drop(place.zero_()),
            }
            let _ = there.fill_(f64::from(u8::from(gradient.defined())));
            at += length + 1;
        }
        slot.narrow(0, 0, at)
    }

    /// Copies a bucket's sums out; returns the whole slot.
    fn emptied(&self, (bucket, sums): (usize, Tensor)) -> Tensor {
        let mut at = 0;
        for parameter in self.members(bucket) {
            let length = parameter.numel() as i64;
            let has = |parameter: &Tensor| parameter.grad().defined();
            if has(parameter) || sums.double_value(&[at + length]) > 0.0 {
                let sum = sums.narrow(0, at, length).view(parameter.size().as_slice());
                gradient(parameter).copy_(&sum);
            }
            at += length + 1;
        }
        whole(&sums, self.longest())
    }

    fn members(&self, bucket: usize) -> impl Iterator<Item = &Tensor> {
        self.buckets[bucket].members.iter().map(|&number| &self.parameters[number])
    }

    fn make_slots(&self) -> Vec<Tensor> {
        let Some(first) = self.parameters.first() else { return Vec::new() };
        let slot = || Tensor::zeros([self.longest()], (Kind::Float, first.device()));
        (0..SLOTS.min(self.buckets.len())).map(|_| slot()).collect()
    }

    /// Values of the largest bucket: a gradient and whether it is there, of every member.
    fn longest(&self) -> i64 {
        let values =
            |bucket| -> usize { self.members(bucket).map(|member| member.numel() + 1).sum() };
        (0..self.buckets.len()).map(values).max().unwrap_or(0) as i64
    }
}

/// Buckets on their way to the reducing thread and back.
struct Flow<'a> {
    gradients: &'a Gradients,
    /// The next bucket to fill.
    next: usize,
    free: Vec<Tensor>,
    filled: Sender<(usize, Tensor)>,
    to_empty: Receiver<Result<(usize, Tensor), CommError>>,
    /// What ended the reducing thread.
    lost: Option<CommError>,
}

impl Flow<'_> {
    /// Fills buckets that are complete when the pass has done with this segment and all after it, as long as there are
    /// slots: the pass is not kept waiting.
    fn fill_from(&mut self, segment: usize) {
        while self.lost.is_none()
            && self.gradients.buckets.get(self.next).is_some_and(|next| next.segment >= segment)
        {
            while let Ok(reduced) = self.to_empty.try_recv() {
                self.take_back(reduced);
            }
            let Some(slot) = self.free.pop() else { return };
            self.send(slot);
        }
    }

    /// Fills the other buckets, waits for all, and gives the slots back.
    fn finish(mut self) -> Result<Vec<Tensor>, CommError> {
        while self.lost.is_none() && self.next < self.gradients.buckets.len() {
            match self.free.pop() {
                Some(slot) => self.send(slot),
                None => match self.to_empty.recv() {
                    Ok(reduced) => self.take_back(reduced),
                    // The thread ends early only after it has sent an error.
                    Err(_) => break,
                },
            }
        }
        let Flow { gradients, mut free, filled, to_empty, lost, .. } = self;
        drop(filled);
        if let Some(error) = lost {
            return Err(error);
        }
        for reduced in to_empty {
            free.push(gradients.emptied(reduced?));
        }
        Ok(free)
    }

    fn send(&mut self, slot: Tensor) {
        let slot = self.gradients.fill(self.next, slot);
        // If the thread is gone, its error is on its way back.
        let _ = self.filled.send((self.next, slot));
        self.next += 1;
    }

    fn take_back(&mut self, reduced: Result<(usize, Tensor), CommError>) {
        match reduced {
            Ok(reduced) => self.free.push(self.gradients.emptied(reduced)),
            Err(error) => self.lost = Some(error),
        }
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

/// Parameters of known segments and sizes, bucket by bucket, from the last to the first: the order in which the backward
/// pass completes their gradients. A bucket holds at most `longest` values, or a single parameter.
fn plan(parameters: &[(usize, usize)], longest: usize) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = Vec::new();
    let mut room = 0;
    for (number, &(segment, size)) in parameters.iter().enumerate().rev() {
        match buckets.last_mut() {
            Some(bucket) if size <= room => {
                bucket.members.push(number);
                bucket.segment = segment;
                room -= size;
            }
            _ => {
                buckets.push(Bucket { members: vec![number], segment });
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
        let buckets = plan(&[(0, 4), (1, 50), (1, 3), (2, 3), (2, 4), (3, 0)], 10);
        let expected = [(vec![5, 4, 3, 2], 1), (vec![1], 1), (vec![0], 0)];
        assert_eq!(buckets, expected.map(|(members, segment)| Bucket { members, segment }));
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
        for (bytes, segments) in [(4, 5), (4, 0), (60, 2), (60, 0), (1 << 20, 0)] {
            let sums = thread::scope(|scope| {
                let threads: Vec<_> = local(2)
                    .into_iter()
                    .enumerate()
                    .map(|(rank, communicator)| {
                        scope.spawn(move || {
                            let parameters = parameters(rank);
                            let shared = parameters.iter().map(Tensor::shallow_clone).enumerate();
                            let mut gradients = Gradients::in_buckets(shared.collect(), bytes);
                            let ranks = Ranks::new(Arc::new(communicator));
                            // The pass speaks of the last segments only, or of none.
                            let pass = |finished: &mut dyn FnMut(usize)| {
                                (segments..5).rev().for_each(finished);
                                Ok::<(), CommError>(())
                            };
                            gradients.sum_during(&ranks, pass).unwrap();
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
    fn a_bucket_is_reduced_while_the_pass_goes_on() {
        thread::scope(|scope| {
            for communicator in local(2) {
                scope.spawn(move || {
                    let ranks = Ranks::new(Arc::new(communicator));
                    let parameters = [0, 1].map(|segment| {
                        let parameter = Tensor::ones([3], (Kind::Float, Device::Cpu));
                        (segment, parameter.set_requires_grad(true))
                    });
                    let [first, last] = parameters.each_ref().map(|(_, p)| p.shallow_clone());
                    let mut gradients = Gradients::in_buckets(parameters.into(), 4);
                    gradients.slots = vec![gradients.make_slots().remove(0)];
                    let pass = |finished: &mut dyn FnMut(usize)| {
                        last.sum(Kind::Float).backward();
                        finished(1);
                        first.sum(Kind::Float).backward();
                        // The only slot is on its way; when it is back, what it holds has become the gradient.
                        while last.grad().double_value(&[0]) != 2.0 {
                            finished(0);
                        }
                        Ok::<(), CommError>(())
                    };
                    gradients.sum_during(&ranks, pass).unwrap();
                    assert_eq!(Vec::<f32>::try_from(first.grad()).unwrap(), [2.0; 3]);
                });
            }
        });
    }

    #[test]
    fn a_pass_that_fails_leaves_no_rank_waiting() {
        let failed = thread::scope(|scope| {
            let threads: Vec<_> = local(2)
                .into_iter()
                .enumerate()
                .map(|(rank, communicator)| {
                    scope.spawn(move || {
                        let ranks = Ranks::new(Arc::new(communicator));
                        let numbered = parameters(rank).into_iter().enumerate().collect();
                        let mut gradients = Gradients::in_buckets(numbered, 4);
                        ranks.together(|| {
                            gradients.sum_during(&ranks, |finished| {
                                (2..5).rev().for_each(finished);
                                match rank {
                                    0 => Ok(()),
                                    _ => Err(CommError::Differs { rank, what: "mood" }),
                                }
                            })
                        })
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(matches!(failed[0], Err(CommError::Peers { .. })), "{failed:?}");
        assert!(matches!(failed[1], Err(CommError::Differs { .. })), "{failed:?}");
    }

    #[test]
    fn a_second_step_reduces_what_is_new_and_one_rank_changes_nothing() {
        let parameters = parameters(1);
        let before = parameters[0].grad().copy();
        let numbered = parameters.into_iter().map(|parameter| (0, parameter)).collect();
        let mut gradients = Gradients::in_buckets(numbered, 60);
        gradients.sum(&Ranks::single()).unwrap();
        assert_eq!(gradients.parameters[0].grad(), before);
        thread::scope(|scope| {
            for communicator in local(2) {
                scope.spawn(move || {
                    let ranks = Ranks::new(Arc::new(communicator));
                    let parameter =
                        Tensor::ones([3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
                    let mut gradients =
                        Gradients::in_buckets(vec![(0, parameter.shallow_clone())], 60);
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
