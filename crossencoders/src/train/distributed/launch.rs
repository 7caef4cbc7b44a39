//! Which rank this process is: what `mpirun`, `srun` and their like tell the processes that they start.

use std::sync::Arc;

use tch::Device;

use super::{CommError, Communicator, Ranks};

/// Variables with the number of processes, by launcher; the last is only meant if one of [`RANK`] is set, as Slurm sets
/// it for programs that it does not start itself as well.
const SIZE: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"];
/// Set for processes that can find each other: Open MPI's `mpirun`; PMIx (`srun --mpi=pmix`); PMI (MPICH, Intel MPI,
/// `srun --mpi=pmi2`).
const RANK: [&str; 3] = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"];
/// The number among the processes of one machine.
const LOCAL_RANK: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"];

/// How this process was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// Number of processes that were started together.
    pub size: usize,
    /// This one's number among those of its machine, from 0: which GPU it takes.
    pub local_rank: usize,
}

/// Why this process does not find the others.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A program without the means.
    #[error(
        "this is one of {0} processes of an MPI job, but the program was built without MPI: build it with `--features mpi` (docs/scale.md)"
    )]
    NotBuilt(usize),
    /// MPI or NCCL.
    #[error(transparent)]
    Comm(#[from] CommError),
}

impl Launch {
    /// From the environment; `None` if this process was started on its own.
    pub fn detect() -> Option<Launch> {
        Launch::from(|name| std::env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
        let number = |name: &&str| variable(name).and_then(|value| value.trim().parse().ok());
        RANK.iter().find_map(number).map(|_: usize| Launch {
            size: SIZE.iter().find_map(number).unwrap_or(1),
            local_rank: LOCAL_RANK.iter().find_map(number).unwrap_or(0),
        })
    }
}

/// Finds the other processes of the job; a process that was started on its own is its only rank, and nothing is loaded
/// or opened. `device` is where this rank's gradients are.
///
/// # Errors
/// [`ConnectError`]: processes that were started together never train apart from each other.
pub fn connect(device: Device) -> Result<Ranks, ConnectError> {
    match Launch::detect() {
        Some(Launch { size, .. }) if size > 1 => Ok(Ranks::new(gpus(communicator(size)?, device)?)),
        _ => Ok(Ranks::single()),
    }
}

#[cfg(feature = "mpi")]
fn communicator(_size: usize) -> Result<Arc<dyn Communicator>, ConnectError> {
    Ok(Arc::new(super::Mpi::start()?))
}

#[cfg(not(feature = "mpi"))]
fn communicator(size: usize) -> Result<Arc<dyn Communicator>, ConnectError> {
    Err(ConnectError::NotBuilt(size))
}

#[cfg(feature = "nccl")]
fn gpus(
    communicator: Arc<dyn Communicator>,
    device: Device,
) -> Result<Arc<dyn Communicator>, CommError> {
    match device {
        Device::Cuda(number) => Ok(Arc::new(super::Nccl::start(communicator, number)?)),
        _ => Ok(communicator),
    }
}

#[cfg(not(feature = "nccl"))]
fn gpus(
    communicator: Arc<dyn Communicator>,
    _device: Device,
) -> Result<Arc<dyn Communicator>, CommError> {
    Ok(communicator)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn launch(variables: &[(&str, &str)]) -> Option<Launch> {
        Launch::from(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_launcher_is_understood() {
        let open_mpi = [
            ("OMPI_COMM_WORLD_RANK", "5"),
            ("OMPI_COMM_WORLD_SIZE", "8"),
            ("OMPI_COMM_WORLD_LOCAL_RANK", "1"),
        ];
        assert_eq!(launch(&open_mpi), Some(Launch { size: 8, local_rank: 1 }));
        let slurm = [("PMIX_RANK", "5"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "3")];
        assert_eq!(launch(&slurm), Some(Launch { size: 8, local_rank: 3 }));
        let mpich = [("PMI_RANK", "0"), ("PMI_SIZE", "2"), ("MPI_LOCALRANKID", "0")];
        assert_eq!(launch(&mpich), Some(Launch { size: 2, local_rank: 0 }));
    }

    #[test]
    fn a_program_in_the_shell_of_a_slurm_job_is_on_its_own() {
        assert_eq!(launch(&[("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "0")]), None);
        assert_eq!(launch(&[]), None);
    }
}
