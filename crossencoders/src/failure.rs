//! Failures of libtorch as values.
//!
//! tch panics when libtorch throws. A panic of that kind is no bug where memory may run out, so that training and the
//! reading of batches run behind this one seam, which makes an error of it. Every other panic goes on as it is.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// How tch words its panics.
const TCH: &str = "called `Result::unwrap()` on an `Err` value: Torch(\"";

/// What libtorch, CUDA and the C++ library say when memory runs out.
const OUT_OF_MEMORY: [&str; 6] = [
    "DefaultCPUAllocator",
    "out of memory",
    "std::bad_alloc",
    "Cannot allocate memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
];

/// What libtorch has thrown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LibtorchError {
    /// An allocation failed, on the processor or on a GPU.
    #[error("memory ran out: {0}")]
    OutOfMemory(String),
    /// Anything else.
    #[error("libtorch: {0}")]
    Other(String),
}

impl LibtorchError {
    /// Whether fewer or smaller tensors would help.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, LibtorchError::OutOfMemory(_))
    }
}

thread_local! {
    /// Whether this thread is behind the seam.
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs `work`, with gradients recorded unless it says otherwise; what libtorch throws is an error and not printed.
///
/// What `work` was changing is then half changed: the caller must not go on with it.
///
/// # Errors
/// [`LibtorchError`].
pub fn catching<T>(work: impl FnOnce() -> T) -> Result<T, LibtorchError> {
    install_hook();
    let caught = {
        // `tch::no_grad` leaves gradients off when a panic passes through it; this guard puts them back.
        let _mode = tch::no_grad_guard();
        let outer = CATCHING.replace(true);
        let caught = panic::catch_unwind(AssertUnwindSafe(|| tch::with_grad(work)));
        CATCHING.set(outer);
        caught
    };
    caught.map_err(|payload| match thrown(payload.as_ref()) {
        Some(error) => error,
        None => panic::resume_unwind(payload),
    })
}

/// Panics that become errors are not printed.
fn install_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !(CATCHING.get() && thrown(info.payload()).is_some()) {
                previous(info);
            }
        }));
    });
}

/// The exception behind a panic of tch, without its C++ backtrace.
fn thrown(payload: &(dyn Any + Send)) -> Option<LibtorchError> {
    let text = payload.downcast_ref::<String>()?.strip_prefix(TCH)?;
    // The text is quoted: its line ends are the two characters `\n`.
    let first = text.split("\\n").next().unwrap_or(text).trim_end_matches("\")").to_owned();
    if OUT_OF_MEMORY.iter().any(|sign| text.contains(sign)) {
        Some(LibtorchError::OutOfMemory(first))
    } else {
        Some(LibtorchError::Other(first))
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    #[test]
    fn an_allocation_that_fails_is_an_error_with_its_size() {
        // A petabyte: more than any address space gives.
        let failed = catching(|| Tensor::empty([1 << 50], (Kind::Uint8, Device::Cpu)));
        let Err(LibtorchError::OutOfMemory(reason)) = failed else { panic!("{failed:?}") };
        assert!(reason.contains("1125899906842624 bytes"), "{reason}");
        assert!(!reason.contains("frame #"), "{reason}");
    }

    #[test]
    fn another_exception_is_an_error_of_its_own_and_gradients_are_recorded_again() {
        let failed = catching(|| {
            tch::no_grad(|| {
                Tensor::zeros([2], (Kind::Float, Device::Cpu))
                    + Tensor::zeros([3], (Kind::Float, Device::Cpu))
            })
        });
        assert!(matches!(failed, Err(LibtorchError::Other(_))), "{failed:?}");
        let x = Tensor::zeros([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        assert!((&x * 2.0).requires_grad());
    }

    #[test]
    fn a_panic_of_ours_goes_on() {
        let caught = panic::catch_unwind(|| catching(|| panic!("a bug")));
        assert_eq!(caught.unwrap_err().downcast_ref::<&str>(), Some(&"a bug"));
    }
}
