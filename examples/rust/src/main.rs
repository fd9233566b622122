//! Streams an answer, token by token: chat ["question" ["configuration"]]
//!
//!     cargo build --release
//!     target/release/chat "What is a KV cache?"
//!     target/release/chat "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'
//!
//! build.rs finds the library. Ctrl-C cancels the answer, a second Ctrl-C ends the program at once.
mod dynamo;

use std::error::Error;
use std::ffi::CString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

const SIGINT: i32 = 2;
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
}

/// No function of the library may be called here.
extern "C" fn interrupt(number: i32) {
    INTERRUPTED.store(true, Ordering::Relaxed);
    unsafe { signal(number, 0) }; // 0 is SIG_DFL
}

fn chat(question: &str, config: String) -> Result<(), Box<dyn Error>> {
    let runtime = dynamo::Runtime::new(&CString::new(config)?)?;
    unsafe { signal(SIGINT, interrupt as extern "C" fn(i32) as usize) };
    let request = runtime.chat(question)?;
    let mut finish = None;
    // Looks ten times a second for Ctrl-C.
    let ended = loop {
        let received = request.next(100);
        if INTERRUPTED.load(Ordering::Relaxed) {
            request.cancel();
        }
        match received {
            Ok(Poll::Pending) => {}
            Ok(Poll::Ready(Some(chunk))) => {
                print!("{}", chunk.text());
                std::io::stdout().flush()?;
                finish = chunk.finish_reason();
            }
            Ok(Poll::Ready(None)) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    println!();
    ended?;
    println!("({})", finish.unwrap_or_default());
    Ok(())
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let question = args.next().unwrap_or("What is a KV cache?".into());
    let config = args.next().unwrap_or("{}".into());
    match chat(&question, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<dynamo::Error>() {
            Some(error) if error.status == dynamo::CANCELLED => {
                println!("(cancelled)");
                ExitCode::from(130)
            }
            _ => {
                eprintln!("chat: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
