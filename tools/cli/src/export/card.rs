//! The card that stands beside an exported model: what goes in and comes out, what it was made of, and how near it is to
//! that.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use onnx::{Model, OPSET};
use vision::clip::{MEAN, STD};
use vision::detector::{PIXEL_MEANS, Sizing};

use super::{Comparison, Difference};

/// What a card says besides what the model itself tells.
pub struct Card<'a> {
    /// The exported file.
    pub file: &'a Path,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it was made of, as the user named it.
    pub weights: &'a str,
    /// What it computes in.
    pub precision: &'a str,
    /// How far it is from what it was made of, if that was asked for.
    pub comparison: Option<&'a Comparison>,
}

impl Card<'_> {
    /// Where the card of a file lies: `vilbert.onnx.md`.
    pub fn path(file: &Path) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(".md");
        name.into()
    }

    /// Writes it beside the model.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, model: &Model) -> std::io::Result<()> {
        let text = self.text(model);
        evaluation::write_whole(&Card::path(self.file), |out| {
            std::io::Write::write_all(out, text.as_bytes())
        })
    }

    /// The card in Markdown, with the head that model hubs read.
    fn text(&self, model: &Model) -> String {
        let name = self.file.file_name().unwrap_or_default().to_string_lossy();
        let kind = Kind::of(model);
        let mut text = format!(
            "---\nlibrary_name: onnx\npipeline_tag: {}\ntags: [onnx, {}]\n---\n\n# {name}\n\n{}\n\n",
            kind.task, kind.tag, kind.what
        );
        let size = self.bytes as f64 / 1e6;
        let mut line = |label: &str, value: String| text += &format!("| {label} | {value} |\n");
        line("made of", format!("`{}`, by xenc {}", self.weights, env!("CARGO_PKG_VERSION")));
        line("---", "---".into());
        line("precision", self.precision.into());
        line("size", format!("{size:.1} MB, {} nodes, ONNX opset {OPSET}", model.nodes().len()));
        let lacking = onnx::kernels::without_cuda(model);
        line(
            "on a GPU",
            match lacking.is_empty() {
                true => "every operator has a CUDA kernel".into(),
                false => format!("no CUDA kernel for {}", lacking.join(", ")),
            },
        );
        line("run it", format!("`{}`", kind.command.replace("FILE", &name)));
        text += "\n## Inputs and outputs\n\n| | name | type | shape |\n| --- | --- | --- | --- |\n";
        for (way, values) in [("in", model.inputs()), ("out", model.outputs())] {
            for (name, dtype, shape) in values {
                // Writing to a text cannot fail.
                let _ = writeln!(text, "| {way} | `{name}` | {dtype} | {shape} |");
            }
        }
        if let Some(input) = kind.input {
            text += &format!("\n## What goes in\n\n{input}\n");
        }
        text += &self.nearness();
        if let Some(recipe) = model.metadata("recipe") {
            text +=
                &format!("\n## The recipe it was trained by\n\n```toml\n{}\n```\n", recipe.trim());
        }
        text += "\n## Licence\n\nThat of the weights and of the data they were trained on; xenc does not know it: write it here.\n";
        text
    }

    fn nearness(&self) -> String {
        let mut text = "\n## How near it is to what it was made of\n\n".to_owned();
        let Some(Comparison { compared, with, differences }) = self.comparison else {
            return text + "Not compared; `xenc export … --verify` compares.\n";
        };
        text += &format!("Compared {compared} with {with}.\n\n");
        text += "| output | largest difference | as a part of the largest value |\n| --- | --- | --- |\n";
        for Difference { output, absolute, relative } in differences {
            text += &format!("| `{output}` | {absolute:.1e} | {relative:.1e} |\n");
        }
        text
    }
}

/// What a model is for.
struct Kind {
    what: &'static str,
    task: &'static str,
    tag: &'static str,
    command: &'static str,
    /// What has to be done to a picture before, where pictures go in.
    input: Option<String>,
}

impl Kind {
    fn of(model: &Model) -> Kind {
        let Sizing { short, longest } = Sizing::default();
        let takes = |wanted: &str| model.inputs().iter().any(|(name, ..)| name == wanted);
        match model.metadata("network") {
            Some("crossencoder") => Kind {
                what: "A cross-encoder that ranks images, given as region features, by how well a description fits each.",
                task: "visual-question-answering",
                tag: "vision-and-language",
                command: "xenc eval FILE",
                input: None,
            },
            Some("clip_head") => Kind {
                what: "A head on what CLIP's towers put out: it ranks pictures by how well a description fits each.",
                task: "feature-extraction",
                tag: "clip",
                command: "onnxruntime.InferenceSession('FILE')",
                input: None,
            },
            Some("clip") => Kind {
                what: "CLIP: pictures and descriptions to features of one space.",
                task: "zero-shot-image-classification",
                tag: "clip",
                command: match takes("image") {
                    true => "xenc clip embed PICTURES STORE --model FILE",
                    false => "xenc clip rank ANNOTATIONS --images EMBEDDINGS --model FILE",
                },
                input: Some(format!(
                    "Pictures: the shorter side resized to that of `image` (Pillow's bicubic), its middle cut out, red, green, \
                     blue from 0 to 1, less {MEAN:?}, divided by {STD:?}; EXIF orientation is not applied. Descriptions: \
                     OpenAI's tokenizer, between start and end of text, padded with 0."
                )),
            },
            _ => Kind {
                what: "The bottom-up-attention detector: a picture to regions with features, classes and attributes.",
                task: "object-detection",
                tag: "region-features",
                command: match takes("boxes") {
                    true => "xenc extract PICTURES STORE --detector FILE --boxes BOXES",
                    false => "xenc extract PICTURES STORE --detector FILE",
                },
                input: Some(format!(
                    "One picture, upright (EXIF orientation applied): the shorter side resized to {short}, or the longer to \
                     {longest} if that would be longer (Pillow's bilinear), blue, green, red from 0 to 255, less \
                     {PIXEL_MEANS:?}. {}",
                    match takes("boxes") {
                        true =>
                            "And boxes, in pixels of that picture: what comes out describes each of them.",
                        false =>
                            "Proposals, not regions, come out: `xenc extract` chooses among them.",
                    }
                )),
            },
        }
    }
}
