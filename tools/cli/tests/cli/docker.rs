//! The Dockerfiles: that they can be parsed, and that what they copy and call is there. There is no Docker to build them.

use std::fs;
use std::path::{Path, PathBuf};

use parse_dockerfile::{Command, Instruction};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What is wrong with a Dockerfile.
fn faults(text: &str) -> Vec<String> {
    let parsed = match parse_dockerfile::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => return vec![error.to_string()],
    };
    let (mut faults, mut stages) = (Vec::new(), Vec::new());
    for instruction in &parsed.instructions {
        match instruction {
            Instruction::From(from) => {
                stages.extend(from.as_.as_ref().map(|(_, name)| name.value.to_string()));
            }
            Instruction::Copy(copy) => {
                let from = copy.options.iter().find(|option| option.name.value == "from");
                let stage = from.and_then(|option| option.value.as_ref()).map(|stage| &stage.value);
                if let Some(stage) = stage
                    && !stages.iter().any(|known| known == stage)
                {
                    faults.push(format!("no stage `{stage}`"));
                }
            }
            Instruction::Run(run) => {
                let unknown = targets(&run.arguments).into_iter().filter(|name| !is_target(name));
                faults.extend(unknown.map(|name| format!("no target `{name}`")));
            }
            _ => {}
        }
    }
    faults
}

/// What a line gives to `make`.
fn targets<'a>(command: &Command<'a>) -> Vec<&'a str> {
    let Command::Shell(line) = command else { return Vec::new() };
    let calls = line.value.split("&&").map(str::trim);
    calls.filter_map(|call| call.strip_prefix("make ")?.split_whitespace().next()).collect()
}

fn is_target(name: &str) -> bool {
    let makefile = fs::read_to_string(repository().join("Makefile")).unwrap();
    makefile.lines().any(|line| line.starts_with(&format!("{name}:")))
}

#[test]
fn dockerfiles_are_sound() {
    let mut count = 0;
    for entry in fs::read_dir(repository().join("docker")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(faults(&text), Vec::<String>::new(), "{}", path.display());
        // The oldest Rust that the project can be built with, or a newer one.
        let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
        let version = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "));
        let image = format!("FROM rust:{}-", version.unwrap().trim_matches('"'));
        assert!(text.contains(&image), "{}: {image}", path.display());
        count += 1;
    }
    assert_eq!(count, 2, "one for processors and one for GPUs");
}

#[test]
fn faults_of_a_dockerfile_are_found() {
    assert!(!faults("FRM debian").is_empty());
    assert_eq!(faults("FROM debian AS a\nCOPY --from=b x y"), ["no stage `b`"]);
    assert_eq!(faults("FROM debian\nRUN make nothing && true"), ["no target `nothing`"]);
}
