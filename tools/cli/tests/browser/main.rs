//! The explorer in a real browser: `make test-browser` builds and runs this.

mod webdriver;

#[path = "../world/mod.rs"]
mod world;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Stdio};

use serde_json::json;

use webdriver::Browser;
use world::World;

/// A server at work, which is interrupted in the end.
struct Explorer {
    process: Child,
    url: String,
}

impl Explorer {
    fn start(world: &World, arguments: &[&str]) -> Explorer {
        let mut command = world.command(&[&["explore"], arguments].concat());
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("http://127.0.0.1:"), "{line}");
        Explorer { process, url: line.trim().to_owned() }
    }

    /// What a request with this head is answered, headers and all.
    fn raw(&self, head: &str) -> String {
        let address = self.url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).unwrap();
        let head = head.replace("HERE", address);
        stream.write_all(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn stop(mut self) {
        // SAFETY: the process is our child and has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGINT) };
        assert!(self.process.wait().unwrap().success());
    }
}

#[test]
fn sets_are_browsed_filtered_and_looked_into() {
    let world = World::new();
    assert!(world.train("run", &["train.epochs=1"]).status.success());
    assert!(world.train("other", &["train.epochs=1", "train.seed=1"]).status.success());
    let explorer =
        Explorer::start(&world, &["--run", "run", "--run", "other", "--images", "data/images"]);
    let browser = Browser::start();
    browser.go(&explorer.url);
    assert_eq!(browser.run("return document.querySelectorAll('.list tbody tr').length"), json!(12));

    // The filter, as a hand would use it.
    let wrong = browser.find("select[name=outcome] option[value=wrong]");
    browser.click(&wrong);
    browser.click(&browser.find("form button"));
    // A click may be answered before the page that it leads to is there.
    browser.wait_for(
        "return document.querySelector('.summary')?.innerText.includes(' of 12 descriptions')",
    );
    let right = "return document.querySelectorAll('.list tbody td.right:nth-child(3)').length";
    assert_eq!(browser.run(right), json!(0));

    browser.go(&explorer.url);
    browser.click(&browser.find(".list tbody a"));
    browser.wait_for("return document.querySelectorAll('.candidates li').length == 10");
    browser.wait_for("return [...document.images].every(i => i.complete && i.naturalWidth > 0)");
    // A word shows its boxes while it is pointed at.
    let shown = "return getComputedStyle(document.querySelector('.look .a1')).display";
    assert_eq!(browser.run(shown), json!("none"));
    browser.point_at(&browser.find(".words .w1"));
    browser
        .wait_for("return getComputedStyle(document.querySelector('.look .a1')).display != 'none'");
    browser.click(&browser.find(".candidates li:nth-child(4) a"));
    browser.wait_for(
        "return location.search.includes('candidate=3') && document.readyState == 'complete'",
    );
    browser.click(&browser.find("nav a[rel=next]"));
    browser.wait_for("return location.pathname.endsWith('/description/1')");
    let screenshot = std::env::temp_dir().join("xenc-explorer.png");
    browser.screenshot(&screenshot);
    eprintln!("look at {}", screenshot.display());
    drop(browser);
    explorer.stop();
}

#[test]
fn only_this_machine_reads_and_nobody_writes() {
    let world = World::new();
    assert!(world.train("run", &["train.epochs=1"]).status.success());
    let scored = world.run(&["eval", "run", "--predictions", "run.jsonl"]);
    assert!(scored.status.success());
    let explorer = Explorer::start(&world, &["--run", "run.jsonl"]);
    for (head, status) in [
        ("GET / HTTP/1.1\r\nHost: HERE", "200"),
        ("HEAD /description/0 HTTP/1.1\r\nHost: HERE", "200"),
        ("GET / HTTP/1.1\r\nHost: elsewhere.example", "403"),
        ("GET / HTTP/1.1", "403"),
        ("POST / HTTP/1.1\r\nHost: HERE\r\nContent-Length: 0", "405"),
        ("GET /../../../etc/passwd HTTP/1.1\r\nHost: HERE", "404"),
        ("GET /picture/0/0 HTTP/1.1\r\nHost: HERE", "404"),
    ] {
        let answer = explorer.raw(head);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{head}: {answer}");
    }
    // What a request announces is neither waited for nor made room for.
    let address = explorer.url.trim_start_matches("http://").trim_end_matches('/');
    let mut announced = TcpStream::connect(address).unwrap();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999\r\n\r\nabc";
    announced.write_all(head.as_bytes()).unwrap();
    let page = explorer.raw("GET / HTTP/1.1\r\nHost: HERE");
    assert!(page.contains("Content-Security-Policy: default-src 'none'"), "{page}");
    assert!(!page.contains("<script"));
    explorer.stop();
}
