//! Another `xenc` at work for this one.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::de::DeserializeOwned;

use crate::interrupt;

/// A running process whose talk is passed on line by line, and whose stdout is kept.
pub struct Child {
    name: String,
    process: std::process::Child,
    talk: Option<JoinHandle<()>>,
    output: Option<JoinHandle<std::io::Result<String>>>,
}

impl Child {
    /// Starts it, in a process group of its own: Ctrl-C reaches this process, which passes it on once.
    pub fn start(name: &str, mut command: Command) -> anyhow::Result<Child> {
        let name = name.to_owned();
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let talk = process.stderr.take().map(|stderr| {
            let name = name.clone();
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    errln!("{name}: {line}");
                }
            })
        });
        let output = process.stdout.take().map(|mut stdout| {
            thread::spawn(move || {
                let mut text = String::new();
                stdout.read_to_string(&mut text).map(|_| text)
            })
        });
        Ok(Child { name, process, talk, output })
    }

    /// Waits for its result; `None` if it was interrupted.
    pub fn finish<T: DeserializeOwned>(self) -> anyhow::Result<Option<T>> {
        let name = self.name.clone();
        let Some(text) = self.finish_with_text()? else { return Ok(None) };
        serde_json::from_str(&text).map(Some).with_context(|| format!("{name} printed no summary"))
    }

    /// Waits for what it prints; `None` if it was interrupted.
    pub fn finish_with_text(mut self) -> anyhow::Result<Option<String>> {
        let mut told = false;
        let status = loop {
            if let Some(status) = self.process.try_wait()? {
                break status;
            }
            if !told && interrupt::flag().load(Ordering::Relaxed) {
                self.interrupt();
                told = true;
            }
            thread::sleep(Duration::from_millis(50));
        };
        let talked = self.talk.take().map(JoinHandle::join);
        let text = self.output.take().map(JoinHandle::join);
        if interrupt::flag().load(Ordering::Relaxed) {
            return Ok(None);
        }
        let (Some(Ok(())), Some(Ok(Ok(text))), true) = (talked, text, status.success()) else {
            bail!("{} ended with {status}", self.name);
        };
        Ok(Some(text))
    }

    fn interrupt(&mut self) {
        #[cfg(unix)]
        if let Ok(pid) = i32::try_from(self.process.id()) {
            // SAFETY: the process is our child and has not been waited for, so the id is still its own.
            unsafe { libc::kill(pid, libc::SIGINT) };
        }
    }
}

impl Drop for Child {
    /// If one child fails, the others must not go on alone.
    fn drop(&mut self) {
        if !matches!(self.process.try_wait(), Ok(Some(_))) {
            self.interrupt();
            let _ = self.process.wait();
        }
    }
}
