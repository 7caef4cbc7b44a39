//! A browser that a test drives, through chromedriver.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// The key under which WebDriver names an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// How long an answer may take: a browser that is started for the first time on a busy machine needs a minute.
const PATIENCE: Duration = Duration::from_secs(90);

/// A headless Chromium, which is closed in the end.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
}

/// An element of a page.
pub struct Element(String);

impl Browser {
    pub fn start() -> Browser {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is there: `make test-browser` installs it");
        let lines = BufReader::new(driver.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut ports = lines.filter_map(|line| {
            let (_, port) = line.split_once("started successfully on port ")?;
            port.trim_end_matches('.').parse().ok()
        });
        let port = ports.next().expect("chromedriver says its port");
        let mut browser = Browser { driver, port, session: String::new() };
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1200,1600"],
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}});
        let begun = browser.ask("POST", "/session", &wanted);
        browser.session = format!("/session/{}", begun["sessionId"].as_str().unwrap());
        browser
    }

    pub fn go(&self, url: &str) {
        self.post("/url", &json!({"url": url}));
    }

    /// The value of a script's `return`.
    pub fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until a script returns true.
    pub fn wait_for(&self, script: &str) {
        let started = Instant::now();
        while self.run(script) != json!(true) {
            assert!(started.elapsed() < PATIENCE, "{script}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn find(&self, selector: &str) -> Element {
        let found = self.post("/element", &json!({"using": "css selector", "value": selector}));
        Element(found[ELEMENT].as_str().unwrap_or_else(|| panic!("{selector}: {found}")).to_owned())
    }

    pub fn click(&self, element: &Element) {
        self.post(&format!("/element/{}/click", element.0), &json!({}));
    }

    pub fn point_at(&self, element: &Element) {
        let origin = json!({ELEMENT: element.0});
        let moves = json!([{"type": "pointerMove", "x": 0, "y": 0, "origin": origin}]);
        let mouse = json!({"type": "pointer", "id": "mouse", "actions": moves});
        self.post("/actions", &json!({"actions": [mouse]}));
    }

    pub fn screenshot(&self, path: &Path) {
        let picture = self.ask("GET", &format!("{}/screenshot", self.session), &Value::Null);
        let bytes = BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("{}{path}", self.session), body)
    }

    /// A request to the driver; what it answers, unless that is an error.
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .unwrap();
        let answer = answered(stream);
        assert!(answer["value"].get("error").is_none(), "{method} {path}: {answer}");
        answer["value"].clone()
    }
}

/// The JSON that is answered; the driver leaves the connection open.
fn answered(stream: TcpStream) -> Value {
    let (mut stream, mut length) = (BufReader::new(stream), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", &self.session.clone(), &Value::Null);
        }
        // Asked to end, the driver ends its browser, too, also after a test that has failed.
        // SAFETY: the process is our child and has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.driver.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.driver.wait();
    }
}
