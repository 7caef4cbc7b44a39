//! The terminal dashboard of `xenc train`: curves, rate, time left, last evaluations, memory.
//!
//! It is drawn on stderr by a thread of its own, so that it answers keys and counts time while a step takes long.

mod memory;
mod state;
mod view;

use std::io::{self, IsTerminal, Stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};

pub use state::State;

use crate::interrupt;

/// Between two looks at keys and state.
const TICK: Duration = Duration::from_millis(250);

/// Whether the terminal is ours at the moment.
static ON_SCREEN: AtomicBool = AtomicBool::new(false);

/// A dashboard on the screen; it goes when it is dropped.
pub struct Dashboard {
    state: Arc<Mutex<State>>,
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Dashboard {
    /// Whether there is a terminal to draw on and to read keys from.
    pub fn is_possible() -> bool {
        io::stderr().is_terminal() && io::stdin().is_terminal()
    }

    /// Takes the terminal.
    pub fn start(state: State) -> io::Result<Dashboard> {
        let terminal = enter()?;
        let state = Arc::new(Mutex::new(state));
        let done = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let (state, done) = (Arc::clone(&state), Arc::clone(&done));
            move || show(terminal, &state, &done)
        });
        Ok(Dashboard { state, done, thread: Some(thread) })
    }

    /// What is shown, to be changed.
    pub fn state(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    /// Gives the terminal back.
    pub fn finish(mut self) -> io::Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> io::Result<()> {
        self.done.store(true, Ordering::Relaxed);
        let shown = self.thread.take().map(JoinHandle::join);
        leave();
        match shown {
            Some(Ok(result)) => result,
            // A panic has told itself.
            None | Some(Err(_)) => Ok(()),
        }
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = self.stop();
    }
}

/// A panic elsewhere shall not end the dashboard as well: the state is numbers, always sound.
fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn enter() -> io::Result<Terminal<CrosstermBackend<Stderr>>> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        // What a panic says must be readable.
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            hook(panic);
        }));
    });
    enable_raw_mode()?;
    ON_SCREEN.store(true, Ordering::SeqCst);
    interrupt::on_screen(Some(leave));
    let terminal = execute!(io::stderr(), EnterAlternateScreen, Hide)
        .and_then(|()| Terminal::new(CrosstermBackend::new(io::stderr())));
    if terminal.is_err() {
        leave();
    }
    terminal
}

fn leave() {
    if ON_SCREEN.swap(false, Ordering::SeqCst) {
        interrupt::on_screen(None);
        // A terminal that does not answer any more cannot be helped.
        let _ = disable_raw_mode();
        let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
    }
}

fn show(
    mut terminal: Terminal<CrosstermBackend<Stderr>>,
    state: &Mutex<State>,
    done: &AtomicBool,
) -> io::Result<()> {
    while !done.load(Ordering::Relaxed) {
        {
            let state = locked(state);
            terminal.draw(|frame| view::draw(frame, &state, Instant::now()))?;
        }
        // Keys that wait are all taken before the next drawing.
        let mut patience = TICK;
        while event::poll(patience)? {
            patience = Duration::ZERO;
            if let Event::Key(key) = event::read()?
                && is_stop(key)
            {
                locked(state).stopping = true;
                interrupt::request();
            }
        }
        let mut state = locked(state);
        state.stopping |= interrupt::flag().load(Ordering::Relaxed);
        state.memory = memory::used();
    }
    Ok(())
}

/// `q` or Ctrl-C, which is a key like others while the terminal is ours.
fn is_stop(key: KeyEvent) -> bool {
    let ctrl_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (ctrl_c || key.code == KeyCode::Char('q'))
}
