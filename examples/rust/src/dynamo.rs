//! A safe interface to the part of dynamo_llm.h that a chat needs.
use std::ffi::{c_char, c_void, CStr, CString};
use std::fmt;

pub const END: i32 = 1;
pub const CANCELLED: i32 = -12;

/// What dynamo_llm.h declares. Handles may be used by any thread, and stale ones do no harm.
mod c {
    use super::{c_char, c_void};
    #[link(name = "dynamo_llm_capi")]
    extern "C" {
        pub fn dynamo_abi_version() -> u32;
        pub fn dynamo_last_status() -> i32;
        pub fn dynamo_last_error() -> *const c_char;
        pub fn dynamo_free(pointer: *mut c_void);
        pub fn dynamo_runtime_create(config: *const c_char) -> *mut c_void;
        pub fn dynamo_runtime_destroy(runtime: *mut c_void);
        pub fn dynamo_request_create(body: *const c_char) -> *mut c_void;
        pub fn dynamo_request_send(runtime: *mut c_void, request: *mut c_void) -> i32;
        pub fn dynamo_request_recv(request: *mut c_void) -> *mut c_void;
        pub fn dynamo_request_cancel(request: *mut c_void) -> i32;
        pub fn dynamo_request_destroy(request: *mut c_void);
        pub fn dynamo_response_text(response: *const c_void, length: *mut usize) -> *const c_char;
        pub fn dynamo_response_finish_reason(response: *const c_void) -> *const c_char;
    }
}

/// An error of the library.
#[derive(Debug)]
pub struct Error {
    pub status: i32,
    message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl Error {
    /// Of this thread's latest call.
    fn last() -> Self {
        let status = unsafe { c::dynamo_last_status() };
        let message = unsafe { text(c::dynamo_last_error()) }.unwrap_or_default();
        Error { status, message }
    }
}

/// A copy of a string of the library. None if it is NULL.
unsafe fn text(string: *const c_char) -> Option<String> {
    let copy = |s| CStr::from_ptr(s).to_string_lossy().into_owned();
    (!string.is_null()).then(|| copy(string))
}

/// A string for the library, which copies it. It ends at the first NUL.
fn c_string(string: &str) -> CString {
    let before_nul = string.split('\0').next().unwrap_or_default();
    CString::new(before_nul).expect("no NUL")
}

/// A handle, or the error that there is none.
fn handle(pointer: *mut c_void) -> Result<*mut c_void, Error> {
    (!pointer.is_null())
        .then_some(pointer)
        .ok_or_else(Error::last)
}

/// An engine with a model.
pub struct Runtime(*mut c_void);

unsafe impl Send for Runtime {}
unsafe impl Sync for Runtime {}

impl Runtime {
    /// Starts an engine, as a configuration in JSON says, and loads its model.
    pub fn new(config: &str) -> Result<Self, Error> {
        assert_eq!(unsafe { c::dynamo_abi_version() }, 1, "another ABI");
        handle(unsafe { c::dynamo_runtime_create(c_string(config).as_ptr()) }).map(Runtime)
    }

    /// Sends an OpenAI body. What the answer is made of comes from [`Request::chunks`].
    pub fn send(&self, body: &str) -> Result<Request, Error> {
        let pointer = unsafe { c::dynamo_request_create(c_string(body).as_ptr()) };
        let request = Request(handle(pointer)?);
        match unsafe { c::dynamo_request_send(self.0, request.0) } {
            0 => Ok(request),
            _ => Err(Error::last()),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        unsafe { c::dynamo_runtime_destroy(self.0) }
    }
}

/// A request that was sent. Dropping it cancels it.
pub struct Request(*mut c_void);

unsafe impl Send for Request {}
unsafe impl Sync for Request {}

impl Request {
    /// Ends the answer with the status [`CANCELLED`].
    pub fn cancel(&self) {
        unsafe { c::dynamo_request_cancel(self.0) };
    }

    /// The answer as it comes; `next()` waits. An error is the last item.
    pub fn chunks(&self) -> impl Iterator<Item = Result<Chunk, Error>> + '_ {
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            let received = handle(unsafe { c::dynamo_request_recv(self.0) });
            ended = received.is_err();
            match received {
                Err(error) if error.status == END => None,
                other => Some(other.map(Chunk)),
            }
        })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        unsafe { c::dynamo_request_destroy(self.0) }
    }
}

/// Some of an answer.
pub struct Chunk(*mut c_void);

impl Chunk {
    pub fn text(&self) -> &str {
        let bytes =
            unsafe { CStr::from_ptr(c::dynamo_response_text(self.0, std::ptr::null_mut())) };
        bytes.to_str().expect("the library gives UTF-8")
    }

    /// Why the answer ended, if this is its last chunk.
    pub fn finish_reason(&self) -> Option<String> {
        unsafe { text(c::dynamo_response_finish_reason(self.0)) }
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        unsafe { c::dynamo_free(self.0) }
    }
}
