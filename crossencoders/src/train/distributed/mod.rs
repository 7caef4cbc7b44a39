//! Training on several processes at once, each with a copy of the model and a share of every batch.
//!
//! The processes are *ranks*: they are started together (`mpirun -n 8 xenc train …`, see `docs/scale.md`), go through
//! the same steps, and add up their gradients before each update, so that their weights stay the same. A [`Ranks`] is
//! what the trainer holds; below it lies a [`Communicator`]: [`Single`] (one process), [`Local`] (threads of one
//! process), `Mpi` (Cargo feature `mpi`) or `Nccl` (feature `nccl`, between GPUs).
//!
//! The order of the data is a function of seed and epoch and the same on all ranks. Of each batch, rank *r* of *n* takes
//! the rows *r*, *r + n*, *r + 2n*, … ([`share`]) and weighs its loss by the part of the rows that it has, so that the
//! *sum* of the ranks' gradients is the gradient of the whole batch, however uneven the shares are. Hence any number of
//! ranks gives the same run within float rounding (dropout aside, whose mask each rank draws on its own), and a run may
//! go on with another number of ranks than it was begun with.

mod gradients;
mod launch;
mod local;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
mod ranks;
mod share;
mod validation;

use std::fmt;

use tch::{Device, Kind, Tensor};

pub use gradients::{BUCKET_BYTES, Gradients};
pub use launch::{ConnectError, Launch, connect};
pub use local::{Local, local};
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
#[cfg(feature = "nccl")]
pub use nccl::Nccl;
pub use ranks::Ranks;
pub use share::share;
pub(super) use validation::Share;

/// Why ranks cannot go on together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommError {
    /// Other ranks have failed, and have said why themselves.
    #[error("rank {} has failed; its own message says why", list(ranks))]
    Peers {
        /// Which.
        ranks: Vec<usize>,
    },
    /// What must be the same everywhere is not.
    #[error(
        "rank {rank} has another {what} than rank 0: all ranks must read the same files and run the same program"
    )]
    Differs {
        /// The lowest rank that differs.
        rank: usize,
        /// In what.
        what: &'static str,
    },
    /// The library below. Other ranks may be waiting for this one: it has to exit.
    #[error("{library} has failed: {reason}")]
    Library {
        /// MPI or NCCL.
        library: &'static str,
        /// What it says.
        reason: String,
    },
}

fn list(ranks: &[usize]) -> String {
    ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// Collective operations: every rank calls the same ones in the same order, with buffers of the same size, one at a time.
pub trait Communicator: fmt::Debug + Send + Sync {
    /// This process's number, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Replaces values by their sums over all ranks: the same bits on each.
    ///
    /// # Errors
    /// [`CommError::Library`].
    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CommError>;

    /// Replaces bytes by those of rank 0.
    ///
    /// # Errors
    /// [`CommError::Library`].
    fn broadcast(&self, bytes: &mut [u8]) -> Result<(), CommError>;

    /// Returns when all ranks have called it.
    ///
    /// # Errors
    /// [`CommError::Library`].
    fn barrier(&self) -> Result<(), CommError>;

    /// The same as [`all_reduce`](Communicator::all_reduce) for a contiguous f32 tensor; one on a GPU goes through main
    /// memory unless the implementation knows better.
    ///
    /// # Errors
    /// [`CommError::Library`].
    fn all_reduce_tensor(&self, tensor: &mut Tensor) -> Result<(), CommError> {
        if tensor.device() == Device::Cpu {
            return self.all_reduce(values(tensor));
        }
        let mut host = tensor.to_device(Device::Cpu);
        self.all_reduce(values(&mut host))?;
        tch::no_grad(|| tensor.copy_(&host));
        Ok(())
    }
}

/// The memory of a contiguous f32 tensor on the processor.
fn values(tensor: &mut Tensor) -> &mut [f32] {
    assert!(
        tensor.device() == Device::Cpu && tensor.kind() == Kind::Float && tensor.is_contiguous(),
        "a bucket is contiguous f32 in main memory"
    );
    if tensor.numel() == 0 {
        return &mut [];
    }
    // SAFETY: asserted to be `numel` floats one after another in main memory. The tensor is borrowed mutably for as long
    // as the slice lives, and buckets share their storage with no other tensor at that time.
    unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), tensor.numel()) }
}

/// One process on its own.
#[derive(Debug, Clone, Copy, Default)]
pub struct Single;

impl Communicator for Single {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_reduce(&self, _values: &mut [f32]) -> Result<(), CommError> {
        Ok(())
    }

    fn broadcast(&self, _bytes: &mut [u8]) -> Result<(), CommError> {
        Ok(())
    }

    fn barrier(&self) -> Result<(), CommError> {
        Ok(())
    }
}
