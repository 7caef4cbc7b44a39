//! Gradients from GPU to GPU. **Not run yet**: written without a machine of several GPUs, it is known to compile.

use std::fmt;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, sys::CUstream};
use cudarc::nccl::{result, sys};
use tch::{Device, Kind, Tensor};

use super::{CommError, Communicator};

/// Reduces tensors on GPUs with NCCL, and leaves everything else to the communicator that it was started with. libcuda
/// and libnccl are loaded when it starts.
pub struct Nccl {
    host: Arc<dyn Communicator>,
    /// libtorch computes on the default stream, so what is queued there comes after the backward pass.
    stream: Arc<CudaStream>,
    communicator: Handle,
    device: usize,
}

struct Handle(sys::ncclComm_t);

// SAFETY: NCCL allows a communicator to be used from several threads, one at a time; `Communicator`'s contract is one
// operation at a time.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Nccl {
    /// Makes the GPUs of all ranks known to each other; every rank has one of its own.
    ///
    /// # Errors
    /// [`CommError::Library`], also if libcuda or libnccl is not there.
    pub fn start(host: Arc<dyn Communicator>, device: usize) -> Result<Nccl, CommError> {
        // SAFETY: only looks for the libraries.
        let present = unsafe { cudarc::driver::sys::is_culib_present() && sys::is_culib_present() };
        if !present {
            return Err(failed("libcuda or libnccl cannot be loaded: is it in LD_LIBRARY_PATH?"));
        }
        let context = CudaContext::new(device).map_err(failed)?;
        let mut id = sys::ncclUniqueId { internal: [0; 128] };
        if host.rank() == 0 {
            id = result::get_uniqueid().map_err(failed)?;
        }
        let mut bytes = id.internal.map(|byte| byte as u8);
        host.broadcast(&mut bytes)?;
        id.internal = bytes.map(|byte| byte as std::ffi::c_char);
        let mut communicator = std::ptr::null_mut();
        let (size, rank) = (host.size() as i32, host.rank() as i32);
        // SAFETY: the pointer is valid for the call, the GPU's context is current, and all ranks have the same id.
        unsafe { result::comm_init_rank(&mut communicator, size, id, rank) }.map_err(failed)?;
        let stream = context.default_stream();
        Ok(Nccl { host, stream, communicator: Handle(communicator), device })
    }

    fn sum(&self, tensor: &Tensor) -> Result<(), CommError> {
        // Buckets are reduced in a thread of their own.
        self.stream.context().bind_to_thread().map_err(failed)?;
        let (values, stream): (_, CUstream) = (tensor.data_ptr(), self.stream.cu_stream());
        // SAFETY: `all_reduce_tensor` has checked that these are `numel` floats on this communicator's GPU, which is
        // reduced in place; the stream is synchronised before the tensor can be used or freed.
        unsafe {
            result::all_reduce(
                values,
                values,
                tensor.numel(),
                sys::ncclDataType_t::ncclFloat32,
                sys::ncclRedOp_t::ncclSum,
                self.communicator.0,
                stream.cast(),
            )
        }
        .map_err(failed)?;
        self.stream.synchronize().map_err(failed)
    }
}

fn failed(reason: impl fmt::Debug) -> CommError {
    CommError::Library { library: "NCCL", reason: format!("{reason:?}") }
}

impl Communicator for Nccl {
    fn rank(&self) -> usize {
        self.host.rank()
    }

    fn size(&self) -> usize {
        self.host.size()
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<(), CommError> {
        self.host.all_reduce(values)
    }

    fn broadcast(&self, bytes: &mut [u8]) -> Result<(), CommError> {
        self.host.broadcast(bytes)
    }

    fn barrier(&self) -> Result<(), CommError> {
        self.host.barrier()
    }

    fn all_reduce_tensor(&self, tensor: &mut Tensor) -> Result<(), CommError> {
        let here = tensor.device() == Device::Cuda(self.device);
        if !here || tensor.kind() != Kind::Float || !tensor.is_contiguous() {
            return Err(failed("a bucket is contiguous f32 on the rank's own GPU"));
        }
        self.sum(tensor)
    }
}

impl Drop for Nccl {
    fn drop(&mut self) {
        // SAFETY: made by `start`, destroyed once. What it answers changes nothing any more.
        let _ = unsafe { result::comm_destroy(self.communicator.0) };
    }
}

impl fmt::Debug for Nccl {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        write!(out, "Nccl {{ device: {}, host: {:?} }}", self.device, self.host)
    }
}
