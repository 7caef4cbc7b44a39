//! The bottom-up-attention detector (Faster R-CNN, ResNet-101 C4, Visual Genome): preprocessing,
//! its network's graph, box arithmetic, and running it.

mod anchors;
mod architecture;
pub mod boxes;
pub mod graph;
mod nms;
pub mod pooling;
mod preprocess;
mod proposals;
mod runner;
mod selection;
mod vocabulary;

pub use anchors::Anchors;
pub use architecture::{Architecture, AttributeHead, random_weights, random_weights_of};
pub use nms::{by_score, nms};
pub use preprocess::{NetworkImage, PIXEL_MEANS, Preprocess, Sizing, Variant};
pub use proposals::{ProposalRule, Proposals};
pub use runner::{DetectError, Detector, Settings, build};
pub use selection::{Candidates, Selection, SelectionRule, softmax};
pub use vocabulary::{NamesError, read_names};
