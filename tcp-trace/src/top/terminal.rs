//! The terminal: taken over, and given back whatever happens.

use std::{
    io::{self, BufWriter, Stdout, Write},
    panic,
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor, event, execute,
        terminal::{self as tty, BeginSynchronizedUpdate, EndSynchronizedUpdate},
    },
};
use rustix::process::{Signal, getpid, kill_process};

use super::{model::Model, view};

/// Whether the screen is ours now.
static OURS: AtomicBool = AtomicBool::new(false);
/// What was to be said on standard error meanwhile.
static HELD: Mutex<Vec<u8>> = Mutex::new(Vec::new());
/// How much of it is kept.
const HELD_MOST: usize = 64 * 1024;

/// Standard error for diagnostics: what is written while the screen is ours comes out afterwards.
#[derive(Debug)]
pub struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !OURS.load(Ordering::SeqCst) {
            return io::stderr().write(bytes);
        }
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() + bytes.len() <= HELD_MOST {
            held.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// How long it takes at most until every thread has stopped.
const TO_STOP: Duration = Duration::from_millis(100);

/// A terminal that is ours; dropped, it is as it was.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
}

impl Screen {
    /// Takes the terminal over.
    pub(super) fn open() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        enter()?;
        Ok(Self { terminal: blank().inspect_err(|_| restore())? })
    }

    /// Draws what has changed, in one piece.
    pub(super) fn draw(&mut self, model: &mut Model) -> io::Result<()> {
        execute!(self.terminal.backend_mut(), BeginSynchronizedUpdate)?;
        let mut drawn = None;
        self.terminal.draw(|frame| drawn = Some(view::view(model, frame.buffer_mut())))?;
        execute!(self.terminal.backend_mut(), EndSynchronizedUpdate)?;
        if let Some(drawn) = drawn {
            model.drew(drawn);
        }
        Ok(())
    }

    /// Draws everything anew.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        enter()?;
        // A new one, because the old one asks where the cursor is before it clears, and waits for the answer.
        self.terminal = blank()?;
        Ok(())
    }

    /// Gives the terminal back and stops, as Ctrl-Z does, until somebody lets us go on.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        restore();
        kill_process(getpid(), Signal::STOP)?;
        // Another thread may be the one that takes it: this one goes on until it is stopped, too.
        thread::sleep(TO_STOP);
        self.redraw()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// A screen with nothing on it.
fn blank() -> io::Result<Terminal<CrosstermBackend<BufWriter<Stdout>>>> {
    execute!(io::stdout(), tty::Clear(tty::ClearType::All))?;
    Terminal::new(CrosstermBackend::new(BufWriter::with_capacity(1 << 16, io::stdout())))
}

fn enter() -> io::Result<()> {
    tty::enable_raw_mode()?;
    OURS.store(true, Ordering::SeqCst);
    execute!(io::stdout(), tty::EnterAlternateScreen, event::EnableMouseCapture, cursor::Hide)
        .inspect_err(|_| restore())
}

/// Gives the terminal back. Nothing better can be done if that fails.
pub(super) fn restore() {
    if !OURS.swap(false, Ordering::SeqCst) {
        return;
    }
    let _ = execute!(
        io::stdout(),
        EndSynchronizedUpdate,
        event::DisableMouseCapture,
        tty::LeaveAlternateScreen,
        cursor::Show
    );
    let _ = tty::disable_raw_mode();
    let held = std::mem::take(&mut *HELD.lock().unwrap_or_else(PoisonError::into_inner));
    let _ = io::stderr().write_all(&held);
}
