//! A safe interface to the part of dynamo_llm.h that a chat needs.
use std::ffi::{c_void, CStr, CString};
use std::fmt;
use std::os::raw::c_char;
use std::ptr::null_mut;
use std::task::Poll;

const OK: i32 = 0;
const END: i32 = 1;
const PENDING: i32 = 2;
pub const CANCELLED: i32 = -12;

// What dynamo_llm.h declares.
#[link(name = "dynamo_llm_capi")]
extern "C" {
    fn dynamo_last_status() -> i32;
    fn dynamo_last_error() -> *const c_char;
    fn dynamo_free(pointer: *mut c_void);
    fn dynamo_runtime_create(config: *const c_char) -> *mut c_void;
    fn dynamo_runtime_destroy(runtime: *mut c_void);
    fn dynamo_request_create(body: *const c_char) -> *mut c_void;
    fn dynamo_request_send(runtime: *mut c_void, request: *mut c_void) -> i32;
    fn dynamo_request_next(request: *mut c_void, ms: i64, response: *mut *mut c_void) -> i32;
    fn dynamo_request_cancel(request: *mut c_void) -> i32;
    fn dynamo_request_destroy(request: *mut c_void);
    fn dynamo_response_text(response: *const c_void, length: *mut usize) -> *const c_char;
    fn dynamo_response_finish_reason(response: *const c_void) -> *const c_char;
}

/// An error of the library.
#[derive(Debug)]
pub struct Error {
    pub status: i32,
    message: String,
}

impl Error {
    /// Of this thread's latest call.
    fn last() -> Self {
        let status = unsafe { dynamo_last_status() };
        let message = unsafe { text(dynamo_last_error()) }.unwrap_or_default();
        Error { status, message }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// A copy of a string of the library. None if it is NULL.
unsafe fn text(string: *const c_char) -> Option<String> {
    (!string.is_null()).then(|| CStr::from_ptr(string).to_string_lossy().into_owned())
}

/// A handle, or the error that there is none.
fn handle(pointer: *mut c_void) -> Result<*mut c_void, Error> {
    (!pointer.is_null())
        .then_some(pointer)
        .ok_or_else(Error::last)
}

/// An engine with a model.
pub struct Runtime(*mut c_void);

impl Runtime {
    /// Starts the engine of a configuration in JSON, and loads its model.
    pub fn new(config: &CStr) -> Result<Self, Error> {
        handle(unsafe { dynamo_runtime_create(config.as_ptr()) }).map(Runtime)
    }

    /// Asks a question.
    pub fn chat(&self, question: &str) -> Result<Request, Error> {
        let question = quoted(question);
        let body = format!(r#"{{"messages": [{{"role": "user", "content": {question}}}]}}"#);
        let body = CString::new(body).expect("a NUL is escaped in JSON");
        let request = Request(handle(unsafe { dynamo_request_create(body.as_ptr()) })?);
        match unsafe { dynamo_request_send(self.0, request.0) } {
            OK => Ok(request),
            _ => Err(Error::last()),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        unsafe { dynamo_runtime_destroy(self.0) }
    }
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

/// A request that was sent. Dropping it cancels it.
pub struct Request(*mut c_void);

impl Request {
    /// Waits for more of the answer, at most so many milliseconds. Ready(None) is its end.
    pub fn next(&self, ms: i64) -> Result<Poll<Option<Chunk>>, Error> {
        let mut response = null_mut();
        match unsafe { dynamo_request_next(self.0, ms, &mut response) } {
            OK => Ok(Poll::Ready(Some(Chunk(response)))),
            END => Ok(Poll::Ready(None)),
            PENDING => Ok(Poll::Pending),
            _ => Err(Error::last()),
        }
    }

    /// Ends the answer with the status [`CANCELLED`].
    pub fn cancel(&self) {
        unsafe { dynamo_request_cancel(self.0) };
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        unsafe { dynamo_request_destroy(self.0) }
    }
}

/// Some of an answer.
pub struct Chunk(*mut c_void);

impl Chunk {
    pub fn text(&self) -> String {
        unsafe { text(dynamo_response_text(self.0, null_mut())) }.unwrap_or_default()
    }

    /// Why the answer ended, if this is its last chunk.
    pub fn finish_reason(&self) -> Option<String> {
        unsafe { text(dynamo_response_finish_reason(self.0)) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        unsafe { dynamo_free(self.0) }
    }
}
