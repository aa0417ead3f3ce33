//! One client: reads what it asks, writes what is in its queue. Whatever it does, only it has to wait.

use std::sync::{Mutex, MutexGuard, PoisonError};

use lazymmu_protocol::{Addresses, Error, MAX_LINE, Request, Why};
use tokio::io::{self, AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use super::hub::{Answer, Hub, Line, QUEUE, refusal};

/// All clients work on one thread, so nobody ever waits here.
pub(super) fn lock(hub: &Mutex<Hub>) -> MutexGuard<'_, Hub> {
    // A panic ends the thread that all clients are on.
    hub.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a client came to say no more.
enum Silent {
    /// It closed its side.
    Closed,
    /// It was refused.
    Refused,
}

/// Serves a client until it goes, or all is over.
pub(super) async fn serve(
    stream: UnixStream,
    hub: &Mutex<Hub>,
    addresses: Addresses,
    mut over: watch::Receiver<bool>,
) {
    let (reader, writer) = stream.into_split();
    let (queue, lines) = mpsc::channel(QUEUE);
    let hello = lock(hub).hello(addresses);
    let _ = queue.try_send(hello);
    let id = lock(hub).join(queue.clone(), addresses);
    let mut writing = std::pin::pin!(write(lines, writer));
    let gone = {
        let listening = listen(reader, hub, id, queue);
        tokio::select! {
            _ = &mut writing => true,
            silent = listening => {
                let stays = matches!(silent, Ok(Silent::Closed)) && lock(hub).is_subscribed(id);
                if !stays {
                    lock(hub).leave(id);
                }
                false
            }
            () = ended(&mut over) => {
                lock(hub).leave(id);
                false
            }
        }
    };
    if !gone {
        // What is in the queue still goes out.
        tokio::select! {
            _ = &mut writing => {}
            () = ended(&mut over) => {
                lock(hub).leave(id);
                let _ = writing.await;
            }
        }
    }
    lock(hub).leave(id);
}

/// Waits until all is over.
async fn ended(over: &mut watch::Receiver<bool>) {
    drop(over.wait_for(|over| *over).await);
}

/// Writes until nobody can put anything into the queue any more, or the client has gone.
async fn write(mut lines: mpsc::Receiver<Line>, mut writer: impl AsyncWrite + Unpin) -> io::Result<()> {
    while let Some(line) = lines.recv().await {
        writer.write_all(line.as_bytes()).await?;
    }
    writer.shutdown().await
}

/// Reads requests and answers them. A client that does not read its answers is not read either.
async fn listen(
    reader: impl AsyncRead + Unpin,
    hub: &Mutex<Hub>,
    id: u64,
    queue: mpsc::Sender<Line>,
) -> io::Result<Silent> {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    loop {
        line.clear();
        match read_line(&mut reader, &mut line).await? {
            Read::End if line.is_empty() => return Ok(Silent::Closed),
            Read::Line | Read::End => {}
            Read::TooLong => {
                let text = format!("{}; nothing else is read from here", Error::TooLong(MAX_LINE));
                let _ = queue.send(refusal(Why::TooLong, text).line().into()).await;
                return Ok(Silent::Refused);
            }
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let request = match std::str::from_utf8(&line) {
            Ok(text) => Request::parse(text),
            Err(error) => Err(Error::Line(error.to_string())),
        };
        let answer = lock(hub).answer(id, &request);
        match answer {
            Answer::Silence => {}
            // It can only fail if nobody writes any more.
            Answer::Say(line) => drop(queue.send(line).await),
            Answer::Refuse(line) => {
                drop(queue.send(line).await);
                return Ok(Silent::Refused);
            }
        }
    }
}

/// What was read.
enum Read {
    /// A line, without its end.
    Line,
    /// The end, perhaps with the beginning of a line.
    End,
    /// No end within what a line may have.
    TooLong,
}

async fn read_line<R: AsyncRead + Unpin>(reader: &mut BufReader<R>, line: &mut Vec<u8>) -> io::Result<Read> {
    loop {
        let bytes = reader.fill_buf().await?;
        if bytes.is_empty() {
            return Ok(Read::End);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        if line.len() + part.len() > MAX_LINE {
            return Ok(Read::TooLong);
        }
        line.extend_from_slice(part);
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(Read::Line);
        }
    }
}
