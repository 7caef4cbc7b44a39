//! What the trainer knows of the other ranks, and how they end together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tch::{Device, Kind, Tensor};

use super::{CommError, Communicator, Single};

/// The rank that speaks for all: writes the run's folder, logs, checkpoints.
const ROOT: usize = 0;

/// All ranks of a run, as seen from one of them.
///
/// Before each operation on data the ranks tell each other, in a message of one number, whether they are well. A rank
/// that fails sends that message instead of going on, wherever the others are, so that they learn of it where they meet
/// next and nobody waits for ever. (A rank that is killed is noticed by the launcher, which ends the others.)
#[derive(Debug, Clone)]
pub struct Ranks {
    communicator: Arc<dyn Communicator>,
    end: Arc<End>,
}

/// How it ended, if it did not end well.
#[derive(Debug, Default)]
struct End {
    /// There will be no operation any more.
    over: AtomicBool,
    /// The lowest rank that failed: the one whose message is worth showing.
    speaker: AtomicUsize,
}

impl Ranks {
    /// Ranks that meet through a communicator.
    pub fn new(communicator: Arc<dyn Communicator>) -> Ranks {
        Ranks { communicator, end: Arc::default() }
    }

    /// One process on its own.
    pub fn single() -> Ranks {
        Ranks::new(Arc::new(Single))
    }

    /// This rank's number, from 0.
    pub fn rank(&self) -> usize {
        self.communicator.rank()
    }

    /// How many ranks there are.
    pub fn size(&self) -> usize {
        self.communicator.size()
    }

    /// Whether this is the rank that writes: number 0.
    pub fn is_root(&self) -> bool {
        self.rank() == ROOT
    }

    /// Whether an error of this rank is the one to show: of all that failed it is the first. Without a failure, rank 0
    /// speaks.
    pub fn speaks(&self) -> bool {
        self.rank() == self.end.speaker.load(Ordering::Acquire)
    }

    /// Does work that needs all ranks, and sees to it that none is left alone: if this rank fails or panics, the others
    /// are told, and all wait for each other at the end.
    ///
    /// # Errors
    /// The work's own, or [`CommError`].
    pub fn together<T, E: From<CommError>>(
        &self,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let unwell = TellOnDrop(self);
        let done = work()?;
        self.barrier()?;
        std::mem::forget(unwell);
        Ok(done)
    }

    /// Replaces values by their sums over all ranks.
    ///
    /// # Errors
    /// [`CommError`].
    pub fn sum(&self, values: &mut [f32]) -> Result<(), CommError> {
        self.meet(|| self.communicator.all_reduce(values))
    }

    /// The same for a contiguous f32 tensor on any device.
    ///
    /// # Errors
    /// [`CommError`].
    pub fn sum_tensor(&self, tensor: &mut Tensor) -> Result<(), CommError> {
        self.meet(|| self.communicator.all_reduce_tensor(tensor))
    }

    /// Whether a thing holds on any rank.
    ///
    /// # Errors
    /// [`CommError`].
    pub fn any(&self, here: bool) -> Result<bool, CommError> {
        let mut votes = [f32::from(u8::from(here))];
        self.sum(&mut votes)?;
        Ok(votes[0] > 0.0)
    }

    /// Returns when all ranks have called it.
    ///
    /// # Errors
    /// [`CommError`].
    pub fn barrier(&self) -> Result<(), CommError> {
        self.meet(|| self.communicator.barrier())
    }

    /// Makes sure that bytes are the same on all ranks, and says in what they differ if not.
    ///
    /// # Errors
    /// [`CommError::Differs`] on all ranks, or another [`CommError`].
    pub fn same(&self, what: &'static str, bytes: &[u8]) -> Result<(), CommError> {
        let mut length = (bytes.len() as u64).to_le_bytes();
        self.meet(|| self.communicator.broadcast(&mut length))?;
        let mut root = vec![0; u64::from_le_bytes(length) as usize];
        if self.is_root() {
            root.copy_from_slice(bytes);
        }
        self.meet(|| self.communicator.broadcast(&mut root))?;
        let mut differs = vec![0.0; self.size()];
        differs[self.rank()] = f32::from(u8::from(root != bytes));
        self.sum(&mut differs)?;
        match differs.iter().position(|&differs| differs > 0.0) {
            None => Ok(()),
            Some(rank) => Err(CommError::Differs { rank, what }),
        }
    }

    /// Gives all ranks the tensors of rank 0; only f32 ones in main memory or on a GPU.
    ///
    /// # Errors
    /// [`CommError`].
    pub fn copy_from_root(&self, tensors: &[Tensor]) -> Result<(), CommError> {
        if self.size() == 1 {
            return Ok(());
        }
        for tensor in tensors {
            let mut values = vec![0f32; tensor.numel()];
            let host = tensor.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
            host.copy_data(&mut values, tensor.numel());
            let mut bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.meet(|| self.communicator.broadcast(&mut bytes))?;
            if !self.is_root() {
                let values: Vec<f32> = bytes
                    .chunks_exact(4)
                    .map(|value| f32::from_le_bytes([value[0], value[1], value[2], value[3]]))
                    .collect();
                let values = Tensor::from_slice(&values).view(tensor.size().as_slice());
                tch::no_grad(|| tensor.shallow_clone().copy_(&values));
            }
        }
        Ok(())
    }

    /// An operation, unless a rank says that it has failed.
    fn meet<T>(&self, operation: impl FnOnce() -> Result<T, CommError>) -> Result<T, CommError> {
        if self.size() == 1 {
            return operation();
        }
        self.ask(true)?;
        operation().inspect_err(|_| self.end.over.store(true, Ordering::Release))
    }

    /// Tells the others whether this rank is well, and learns which are not.
    fn ask(&self, well: bool) -> Result<(), CommError> {
        if self.end.over.load(Ordering::Acquire) {
            return Err(CommError::Peers { ranks: vec![self.end.speaker.load(Ordering::Acquire)] });
        }
        let here = f32::from(u8::from(!well));
        let lost = |_: &CommError| self.end.over.store(true, Ordering::Release);
        let mut unwell = [here];
        self.communicator.all_reduce(&mut unwell).inspect_err(lost)?;
        if unwell[0] == 0.0 {
            return Ok(());
        }
        // Now all know that some are not, and may ask which.
        self.end.over.store(true, Ordering::Release);
        let mut unwell = vec![0.0; self.size()];
        unwell[self.rank()] = here;
        self.communicator.all_reduce(&mut unwell)?;
        let ranks: Vec<usize> = (0..self.size()).filter(|&rank| unwell[rank] > 0.0).collect();
        self.end.speaker.store(ranks.first().copied().unwrap_or(ROOT), Ordering::Release);
        Err(CommError::Peers { ranks })
    }
}

/// Tells the other ranks that this one has failed, unless they know that all is over.
struct TellOnDrop<'a>(&'a Ranks);

impl Drop for TellOnDrop<'_> {
    fn drop(&mut self) {
        if self.0.size() > 1 && !self.0.end.over.load(Ordering::Acquire) {
            // That this rank is not well is what it is to hear.
            let _ = self.0.ask(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::train::distributed::local;

    /// What each rank's work gives, in the order of the ranks.
    fn on_all<T: Send>(size: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
        thread::scope(|scope| {
            let threads: Vec<_> = local(size)
                .into_iter()
                .map(|rank| {
                    let work = &work;
                    scope.spawn(move || work(Ranks::new(Arc::new(rank))))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn sums_are_of_all_ranks_and_the_same_on_each() {
        for sums in on_all(3, |ranks| {
            let mut values = [ranks.rank() as f32, 0.5];
            ranks.sum(&mut values).unwrap();
            values
        }) {
            assert_eq!(sums, [3.0, 1.5]);
        }
    }

    #[test]
    fn a_rank_that_fails_ends_the_others_wherever_they_are_and_one_speaks() {
        let ends = on_all(4, |ranks| {
            let end = ranks.together(|| -> Result<(), CommError> {
                let mut values = [1.0];
                ranks.sum(&mut values)?;
                if ranks.rank() >= 2 {
                    return Err(CommError::Library {
                        library: "this test",
                        reason: "as it should".into(),
                    });
                }
                // The two that go on are waiting for something that the others will never take part in.
                ranks.same("recipe", &[0; 100])?;
                unreachable!("ranks 2 and 3 are gone");
            });
            (end.unwrap_err(), ranks.speaks())
        });
        let peers = CommError::Peers { ranks: vec![2, 3] };
        assert_eq!((&ends[0], &ends[1]), (&(peers.clone(), false), &(peers, false)));
        assert!(matches!(ends[2], (CommError::Library { .. }, true)));
        assert!(matches!(ends[3], (CommError::Library { .. }, false)));
    }

    #[test]
    fn a_failure_after_the_last_meeting_is_not_missed() {
        let ends = on_all(2, |ranks| {
            ranks.together(|| match ranks.rank() {
                0 => Err(CommError::Differs { rank: 0, what: "disk" }),
                _ => Ok(()),
            })
        });
        assert_eq!(ends[1], Err(CommError::Peers { ranks: vec![0] }));
    }

    #[test]
    fn a_panic_is_a_failure_too() {
        let ends = on_all(2, |ranks| {
            let work = || {
                ranks.together(|| -> Result<(), CommError> {
                    assert!(ranks.rank() == 0, "rank 1 panics, as it should");
                    ranks.barrier()
                })
            };
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        });
        assert!(ends[1].is_err());
        assert_eq!(ends[0].as_ref().unwrap(), &Err(CommError::Peers { ranks: vec![1] }));
    }

    #[test]
    fn what_differs_is_named_on_all_ranks() {
        let ends = on_all(3, |ranks| {
            ranks.same("size", b"abc").unwrap();
            let recipe: &[u8] = if ranks.rank() == 1 { b"longer" } else { b"recipe" };
            ranks.same("recipe", if ranks.rank() == 2 { b"x" } else { recipe })
        });
        assert_eq!(ends, vec![Err(CommError::Differs { rank: 1, what: "recipe" }); 3]);
    }

    #[test]
    fn tensors_are_rank_0s_afterwards() {
        for copy in on_all(2, |ranks| {
            let tensor = Tensor::from_slice(&[1.5f32, -2.0]) * (1.0 + ranks.rank() as f64);
            ranks.copy_from_root(std::slice::from_ref(&tensor)).unwrap();
            Vec::<f32>::try_from(tensor).unwrap()
        }) {
            assert_eq!(copy, [1.5, -2.0]);
        }
    }
}
