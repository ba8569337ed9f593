//! HTTP/1.1 by hand: reads whatever comes as leniently as the worst server, and writes what it is told.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Piece, Reply, Seen, State, Stream, When};

/// More of one connection is not kept.
const KEPT: usize = 32 << 20;

struct Reader<'a> {
    state: &'a State,
    id: usize,
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

/// Serves one connection until either side ends it.
pub async fn serve(state: &State, id: usize, stream: Box<dyn Stream>) {
    let mut reader = Reader { state, id, stream, buffer: Vec::new() };
    while let Some(at) = reader.head().await {
        let (when, handler) = state.handler(state.complete(at, |_| {}).path());
        if when == When::Head {
            let seen = state.complete(at, |_| {});
            if !write(&mut reader, &seen, handler(&seen)).await || !reader.body(at).await {
                return;
            }
        } else {
            if !reader.body(at).await {
                return;
            }
            let seen = state.complete(at, |_| {});
            if !write(&mut reader, &seen, handler(&seen)).await {
                return;
            }
        }
    }
}

impl Reader<'_> {
    /// Reads a head and keeps it. None when the connection ends.
    async fn head(&mut self) -> Option<usize> {
        let mut head = Vec::new();
        loop {
            let line = self.line().await?;
            let blank = line == b"\r\n" || line == b"\n";
            if !blank || !head.is_empty() {
                head.extend(line);
            }
            if blank && !head.is_empty() {
                break;
            }
        }
        let connection = self.state.of(self.id);
        let text = String::from_utf8_lossy(&head).into_owned();
        let request = text.lines().next().unwrap_or_default();
        let (method, rest) = request.split_once(' ').unwrap_or((request, ""));
        let target = rest.rsplit_once(' ').map_or(rest, |(target, _)| target);
        let seen = Seen {
            connection: self.id,
            sni: connection.sni,
            protocol: "http/1.1",
            method: method.into(),
            target: target.into(),
            headers: fields(head.split_inclusive(|byte| *byte == b'\n').skip(1)),
            head,
            body: Vec::new(),
            trailers: Vec::new(),
            complete: false,
        };
        Some(self.state.keep(seen))
    }

    /// Reads the body of a request that is kept. Says whether it came to its end.
    async fn body(&mut self, at: usize) -> bool {
        let seen = self.state.complete(at, |_| {});
        let chunked = seen.values("transfer-encoding").iter().any(|value| value.to_lowercase().contains("chunked"));
        let whole = match chunked {
            true => self.chunks(at).await.is_some(),
            false => {
                let length = seen.values("content-length").first().and_then(|length| length.trim().parse().ok());
                self.exactly(at, length.unwrap_or(0)).await.is_some()
            }
        };
        self.state.complete(at, |seen| seen.complete = whole);
        whole
    }

    async fn chunks(&mut self, at: usize) -> Option<()> {
        loop {
            let line = self.line().await?;
            let size = String::from_utf8_lossy(&line).split(';').next().unwrap_or_default().trim().to_owned();
            let size = usize::from_str_radix(&size, 16).ok()?;
            if size == 0 {
                break;
            }
            self.exactly(at, size).await?;
            self.line().await?;
        }
        let mut lines = Vec::new();
        loop {
            let line = self.line().await?;
            if line.trim_ascii().is_empty() {
                break;
            }
            lines.push(line);
        }
        self.state.complete(at, |seen| seen.trailers = fields(lines.iter().map(Vec::as_slice)));
        Some(())
    }

    async fn exactly(&mut self, at: usize, mut length: usize) -> Option<()> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.more().await?;
            }
            let taken = length.min(self.buffer.len());
            let bytes: Vec<u8> = self.buffer.drain(..taken).collect();
            self.state.complete(at, |seen| seen.body.extend(bytes));
            length -= taken;
        }
        Some(())
    }

    /// Reads a line with its end.
    async fn line(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                return Some(self.buffer.drain(..=end).collect());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let before = self.buffer.len();
        let read = self.stream.read_buf(&mut self.buffer).await;
        let new = self.buffer[before..].to_vec();
        self.state.change(self.id, |connection| {
            if connection.bytes.len() < KEPT {
                connection.bytes.extend(new);
            }
        });
        (read.ok()? > 0).then_some(())
    }
}

/// Returns the fields of header lines, names exactly as they came.
fn fields<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<(String, Vec<u8>)> {
    let fields = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((String::from_utf8_lossy(&line[..colon]).into_owned(), line[colon + 1..].trim_ascii().to_vec()))
    });
    fields.collect()
}

/// Writes a reply; says whether another request may follow.
async fn write(reader: &mut Reader<'_>, seen: &Seen, reply: Reply) -> bool {
    match reply {
        Reply::Raw(pieces) => put(reader, pieces, false).await,
        Reply::Answer { status, headers, body, trailers } => {
            let single = trailers.is_empty() && matches!(body[..], [] | [Piece::Bytes(_)]);
            let mut head = format!("HTTP/1.1 {status} -\r\n").into_bytes();
            for (name, value) in headers {
                head.extend([name.as_bytes(), b": ", &value, b"\r\n"].concat());
            }
            let length = if let [Piece::Bytes(bytes)] = &body[..] { bytes.len() } else { 0 };
            let framing =
                if single { format!("content-length: {length}") } else { "transfer-encoding: chunked".into() };
            // A response that has no body by its status says nothing of one.
            let silent = status == 204 || status == 304;
            head.extend(if silent { b"\r\n".to_vec() } else { format!("{framing}\r\n\r\n").into_bytes() });
            if !put(reader, vec![Piece::Bytes(head)], false).await {
                return false;
            }
            if silent || seen.method == "HEAD" {
                return true;
            }
            if !put(reader, body, !single).await || single {
                return single;
            }
            let mut end = b"0\r\n".to_vec();
            for (name, value) in trailers {
                end.extend(format!("{name}: {value}\r\n").into_bytes());
            }
            end.extend(b"\r\n");
            put(reader, vec![Piece::Bytes(end)], false).await
        }
    }
}

/// Writes pieces, each as a chunk if they are chunked; says whether the connection goes on.
async fn put(reader: &mut Reader<'_>, pieces: Vec<Piece>, chunked: bool) -> bool {
    for piece in pieces {
        let goes_on = match piece {
            Piece::Bytes(bytes) => send(reader, &bytes, chunked).await,
            Piece::Forever(bytes) => {
                while send(reader, &bytes, chunked).await {}
                false
            }
            Piece::Drip(bytes, every) => {
                let mut goes_on = true;
                for byte in bytes {
                    tokio::time::sleep(every).await;
                    goes_on = goes_on && send(reader, &[byte], chunked).await;
                }
                goes_on
            }
            Piece::Wait(gate) => {
                gate.opened().await;
                true
            }
            Piece::Hang => {
                while reader.more().await.is_some() {}
                false
            }
            Piece::Close => false,
        };
        if !goes_on {
            let _ = reader.stream.shutdown().await;
            return false;
        }
    }
    true
}

async fn send(reader: &mut Reader<'_>, bytes: &[u8], chunked: bool) -> bool {
    let framed = match chunked {
        true if bytes.is_empty() => return true,
        true => [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat(),
        false => bytes.to_vec(),
    };
    reader.stream.write_all(&framed).await.is_ok() && reader.stream.flush().await.is_ok()
}
