using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;
using System.Text;

/// <summary>An error of the library.</summary>
public sealed class DynamoException : Exception
{
    public const int Cancelled = -12;
    public readonly int Status;

    public DynamoException(int status, string message) : base(message)
    {
        Status = status;
    }
}

/// <summary>An engine with a model.</summary>
public sealed class DynamoRuntime : IDisposable
{
    readonly IntPtr handle;

    /// <summary>Starts the engine of a configuration in JSON, and loads its model.</summary>
    public DynamoRuntime(string config)
    {
        handle = C.dynamo_runtime_create(config);
        if (handle == IntPtr.Zero) throw C.LastError();
    }

    /// <summary>Asks a question.</summary>
    public DynamoAnswer Chat(string question)
    {
        var body = "{\"messages\": [{\"role\": \"user\", \"content\": " + Quoted(question) + "}]}";
        var request = C.dynamo_request_create(body);
        if (request != IntPtr.Zero && C.dynamo_request_send(handle, request) == C.Ok)
            return new DynamoAnswer(request);
        var error = C.LastError();
        C.dynamo_request_destroy(request);
        throw error;
    }

    /// <summary>Stops the engine.</summary>
    public void Dispose()
    {
        C.dynamo_runtime_destroy(handle);
    }

    // A string in JSON.
    static string Quoted(string text)
    {
        var json = new StringBuilder("\"");
        foreach (var c in text)
            if (c < 0x20 || c == '"' || c == '\\') json.AppendFormat("\\u{0:x4}", (int)c);
            else json.Append(c);
        return json.Append('"').ToString();
    }
}

/// <summary>A request that was sent. Any thread may cancel it.</summary>
public sealed class DynamoAnswer : IDisposable
{
    readonly IntPtr handle;

    internal DynamoAnswer(IntPtr handle)
    {
        this.handle = handle;
    }

    /// <summary>Why the answer ended.</summary>
    public string FinishReason { get; private set; }

    /// <summary>The answer as it comes.</summary>
    public IEnumerable<string> Texts()
    {
        IntPtr response;
        int status;
        while ((status = C.dynamo_request_next(handle, -1, out response)) == C.Ok)
        {
            var text = C.Text(C.dynamo_response_text(response, IntPtr.Zero));
            FinishReason = C.Text(C.dynamo_response_finish_reason(response));
            C.dynamo_free(response);
            yield return text;
        }
        if (status != C.End) throw new DynamoException(status, C.Text(C.dynamo_request_error(handle)));
    }

    /// <summary>Ends it with the status Cancelled; harmless after its end.</summary>
    public void Cancel()
    {
        C.dynamo_request_cancel(handle);
    }

    public void Dispose()
    {
        C.dynamo_request_destroy(handle);
    }
}

// The part of dynamo_llm.h that a chat needs.
static class C
{
    const string Library = "libdynamo_llm_capi.so.1";
    const UnmanagedType Utf8 = UnmanagedType.LPUTF8Str;
    public const int Ok = 0, End = 1;

    [DllImport(Library)] static extern int dynamo_last_status();
    [DllImport(Library)] static extern IntPtr dynamo_last_error();
    [DllImport(Library)] public static extern void dynamo_free(IntPtr pointer);
    [DllImport(Library)] public static extern IntPtr dynamo_runtime_create([MarshalAs(Utf8)] string config);
    [DllImport(Library)] public static extern void dynamo_runtime_destroy(IntPtr runtime);
    [DllImport(Library)] public static extern IntPtr dynamo_request_create([MarshalAs(Utf8)] string body);
    [DllImport(Library)] public static extern int dynamo_request_send(IntPtr runtime, IntPtr request);
    [DllImport(Library)] public static extern int dynamo_request_next(IntPtr request, long timeoutMs, out IntPtr response);
    [DllImport(Library)] public static extern int dynamo_request_cancel(IntPtr request);
    [DllImport(Library)] public static extern IntPtr dynamo_request_error(IntPtr request);
    [DllImport(Library)] public static extern void dynamo_request_destroy(IntPtr request);
    [DllImport(Library)] public static extern IntPtr dynamo_response_text(IntPtr response, IntPtr length);
    [DllImport(Library)] public static extern IntPtr dynamo_response_finish_reason(IntPtr response);

    // The error of this thread's latest call.
    public static DynamoException LastError()
    {
        return new DynamoException(dynamo_last_status(), Text(dynamo_last_error()));
    }

    // A copy of a string of the library; null of NULL. (Marshal.PtrToStringUTF8 is .NET Core's only.)
    public static string Text(IntPtr text)
    {
        if (text == IntPtr.Zero) return null;
        var bytes = new List<byte>();
        for (byte b; (b = Marshal.ReadByte(text, bytes.Count)) != 0;) bytes.Add(b);
        return Encoding.UTF8.GetString(bytes.ToArray());
    }
}
