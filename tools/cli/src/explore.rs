//! `xenc explore`: what models make of a split, in a browser.

use std::collections::VecDeque;
use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use crossencoders::device::Device;
use crossencoders::explore::{Explorer, Lens, POLICY, Reply, Run};
use crossencoders::ranker::Ranker;
use evaluation::Phenomena;
use onnx::runtime::names_a_model;
use tiny_http::{Header, Method, Request, Response, Server};

use crate::interrupt;
use crate::rank::{RankOptions, is_predictions, ranked_predictions};
use crate::results::distinct_names;

/// Look at image sets, descriptions, scores and attention in a browser
///
/// Serves pages to this machine alone, until Ctrl-C. They can be read and not change anything, and fetch nothing from
/// elsewhere. With a second run both stand side by side. A run ranks the split first; a predictions file (*.jsonl, of
/// `xenc eval --predictions`) is taken as it is, but knows nothing of attention.
#[derive(clap::Args)]
pub struct Args {
    /// A training run, a checkpoint, or a predictions file (*.jsonl); may be given twice
    #[arg(long = "run", value_name = "RUN", required = true)]
    runs: Vec<PathBuf>,
    /// `valid` or `train` of the first run's recipe, or an annotation file
    #[arg(long, default_value = "valid")]
    split: String,
    /// Folder of the pictures (DIR/SET/imgN.jpg)
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Phenomena of the descriptions (ImageCoDe's manual_annotation_valid.yaml)
    #[arg(long, value_name = "FILE")]
    phenomena: Option<PathBuf>,
    #[command(flatten)]
    options: RankOptions,
    /// Port of this machine; 0 takes any that is free
    #[arg(long, default_value_t = 0)]
    port: u16,
}

/// Serves the pages; their address goes to stdout.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(images) = args.images.as_ref().filter(|images| !images.is_dir()) {
        bail!("{} is no folder with pictures (DIR/SET/imgN.jpg)", images.display());
    }
    if args.runs.len() > 2 {
        bail!("--run is given once or twice: two runs can stand side by side");
    }
    let names = distinct_names(&args.runs)?;
    let phenomena = args.phenomena.as_deref().map(Phenomena::load).transpose()?;
    let mut runs = VecDeque::new();
    for (path, name) in args.runs.iter().zip(names) {
        let Some(predictions) = ranked_predictions(path, &args.options, &args.split)? else {
            return Ok(interrupt::exit_code());
        };
        runs.push_back(Run { name, predictions });
    }
    let Some(first_run) = runs.pop_front() else { bail!("--run is missing") };
    let second_run = runs.pop_front();
    let lens = args.runs.first().filter(|path| !is_predictions(path) && !names_a_model(path));
    let lens = lens.map(|path| lens_of(path, &args)).transpose()?;
    let explorer =
        Explorer::new(first_run, second_run, lens, args.images.clone(), phenomena.as_ref())?;
    serve(&explorer, args.port)
}

/// The model of a run, to ask what it attends to.
fn lens_of(path: &Path, args: &Args) -> anyhow::Result<Lens> {
    let device: Device = args.options.device.parse()?;
    let ranker = Ranker::load(path, &args.options.overrides.values, device.get())?;
    let images = ranker.open_images(args.options.features.as_deref())?;
    Ok(Lens { ranker, images })
}

/// Bytes of a request's body, which is of no use to any page, at most: a browser sends none.
const LONGEST_BODY: usize = 1 << 16;

fn serve(explorer: &Explorer, port: u16) -> anyhow::Result<ExitCode> {
    let server = Server::http(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .map_err(|error| anyhow!("cannot listen on port {port}: {error}; --port names another"))?;
    let address = server.server_addr().to_ip().context("the server has no address")?;
    outln!("http://{address}/");
    errln!("{} descriptions; Ctrl-C ends", explorer.len());
    while !interrupt::flag().load(Ordering::Relaxed) {
        let request = server.recv_timeout(Duration::from_millis(200));
        if let Some(request) = request.context("the server has failed")? {
            if request.body_length().is_some_and(|bytes| bytes > LONGEST_BODY) {
                // Dropped, it would first make room for all that is announced.
                std::mem::forget(request);
                continue;
            }
            let reply = answer(explorer, &request, address);
            // Whoever asked may be gone.
            let _ = request.respond(response(reply));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Only a browser on this machine that was told this very address is answered: a page from elsewhere whose name leads here
/// is not.
fn answer(explorer: &Explorer, request: &Request, address: SocketAddr) -> Reply {
    let refused = |status: u16, what: &str| {
        let kind = "text/plain; charset=utf-8";
        Reply { status, kind, body: what.as_bytes().to_vec() }
    };
    if !matches!(request.method(), Method::Get | Method::Head) {
        return refused(405, "only GET and HEAD");
    }
    let host = request.headers().iter().find(|header| header.field.equiv("Host"));
    let known = [address.to_string(), format!("localhost:{}", address.port())];
    if !host.is_some_and(|host| known.iter().any(|name| host.value.as_str() == name)) {
        return refused(403, "this is not the address that it was started with");
    }
    explorer.answer(request.url())
}

fn response(reply: Reply) -> Response<Cursor<Vec<u8>>> {
    let headers = [
        ("Content-Type", reply.kind),
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cache-Control", "no-store"),
    ];
    let response = Response::from_data(reply.body).with_status_code(reply.status);
    headers
        .into_iter()
        .filter_map(|(name, value)| Header::from_bytes(name, value).ok())
        .fold(response, Response::with_header)
}
