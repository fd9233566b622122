//! Streams an answer, token by token: chat ["question" ["configuration"]]
//!
//!     cargo build --release
//!     target/release/chat "What is a KV cache?"
//!     target/release/chat "one two three" '{"engine": "echo", "options": {"tokens_per_second": 2}}'
//!
//! build.rs finds the library with the command dynamo-llm. Ctrl-C cancels the answer.
mod dynamo;

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};

extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
    fn write(descriptor: i32, bytes: *const u8, count: usize) -> isize;
}

static INTERRUPTS: AtomicI32 = AtomicI32::new(-1);

/// The handler of Ctrl-C; neither Rust's allocator nor the library may be used here.
extern "C" fn interrupt(_number: i32) {
    unsafe { write(INTERRUPTS.load(Ordering::Relaxed), b"i".as_ptr(), 1) };
}

/// A stream that gets a byte for each Ctrl-C. Its other end is never closed.
fn interrupts() -> std::io::Result<UnixStream> {
    const SIGINT: i32 = 2;
    let (ours, handlers) = UnixStream::pair()?;
    INTERRUPTS.store(handlers.as_raw_fd(), Ordering::Relaxed);
    std::mem::forget(handlers);
    unsafe { signal(SIGINT, interrupt as extern "C" fn(i32) as usize) };
    Ok(ours)
}

/// A string in JSON.
fn quoted(string: &str) -> String {
    let mut json = String::from('"');
    for c in string.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\0'..='\x1f' => json += &format!("\\u{:04x}", u32::from(c)),
            _ => json.push(c),
        }
    }
    json + "\""
}

fn chat(question: &str, config: &str) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = dynamo::Runtime::new(config)?;
    let body = format!(
        r#"{{"messages": [{{"role": "user", "content": {}}}]}}"#,
        quoted(question)
    );
    let request = runtime.send(&body)?;
    let mut interrupts = interrupts()?;
    let mut finish = None;
    std::thread::scope(|scope| {
        // Ends with Ctrl-C, or when the stream is shut down below.
        let until = interrupts.try_clone()?;
        scope.spawn(|| {
            interrupts
                .read(&mut [0])
                .is_ok_and(|n| n > 0)
                .then(|| request.cancel())
        });
        let received: Result<(), Box<dyn std::error::Error>> =
            request.chunks().try_for_each(|chunk| {
                let chunk = chunk?;
                print!("{}", chunk.text());
                finish = chunk.finish_reason().or(finish.take());
                Ok(std::io::stdout().flush()?)
            });
        until.shutdown(std::net::Shutdown::Both)?;
        println!();
        received
    })?;
    println!("({})", finish.unwrap_or_default());
    Ok(())
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let question = args.next().unwrap_or("What is a KV cache?".into());
    let config = args.next().unwrap_or("{}".into());
    match chat(&question, &config) {
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
