//! Weights by name: loaded from safetensors and PyTorch files, under VOLTA's names or those of BERT, UNITER and LXMERT;
//! saved as safetensors or as a PyTorch file.
//!
//! A file says itself what it is: [`WeightsFile::open`] tells formats apart by their first bytes and naming conventions by
//! the names. [`load`] takes VOLTA's names; [`initialise`] takes any convention and needs the configuration for it.

mod convert;
mod error;
mod expected;
mod file;
pub mod hub;
mod load;
mod names;
mod pytorch;
mod safetensors;
mod save;
mod tied;
mod training;

pub use convert::{Conversion, ConvertReport, convert};
pub use error::WeightsError;
pub use expected::compare;
pub use file::{Format, TensorInfo, WeightsFile, read};
pub use load::{LoadReport, MisShaped, initialise, load};
pub use names::Convention;
pub use save::{SaveAs, save, save_pytorch};
pub use training::{Moments, TrainingState, training_state};

pub(crate) use save::write;
