//! Every limit of Fanfare: name, unit, default, and the relations between them.
//!
//! A limit stands here and nowhere else; the code refers to it by name. Where an operator may change one, the
//! constant is the default and the configuration checks what was set. Relations that must hold between limits are
//! asserted below, at compile time.

/// Longest topic, bytes of UTF-8.
pub const TOPIC_BYTES_MAX: usize = 200;
/// Longest user id given as a string, bytes of UTF-8.
pub const USER_BYTES_MAX: usize = 128;
/// Longest conflation key of a message, bytes of UTF-8.
pub const MESSAGE_KEY_BYTES_MAX: usize = 128;
/// Longest idempotency key of a publication, bytes of UTF-8.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 128;
/// Most topics one publication may go to.
pub const PUBLISH_TOPICS_MAX: usize = 16;
/// Longest decoded message of one publication, bytes (`--max-message`).
pub const MESSAGE_BYTES: usize = 64 * 1024;
/// Smallest `--max-message`, bytes.
pub const MESSAGE_BYTES_MIN: usize = 1024;
/// Largest `--max-message`, bytes.
pub const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// From this size on, bytes, a message may stay in the buffer its request was read into; a smaller one is copied.
pub const MESSAGE_SHARED_FROM: usize = 4 * 1024;
/// Longest HTTP request body, bytes (`--max-body`).
pub const BODY_BYTES: usize = 1024 * 1024;
/// How much a JSON string may inflate its content: six bytes (`\u0000`) for one.
pub const JSON_INFLATION: usize = 6;
/// How deep a field of a JSON body may be nested.
pub const JSON_DEPTH_MAX: usize = 64;
/// What a publish body may need besides its message, bytes: field names, topic, user.
pub const BODY_BESIDES_MESSAGE: usize = 4 * 1024;
/// Most topics one client may be subscribed to (`--max-topics-per-client`).
pub const TOPICS_PER_CLIENT: usize = 128;
/// Longest id of a client's command, and value of its ping, bytes as it is written, without the quotes.
pub const ECHO_BYTES_MAX: usize = 64;
/// Most messages of each topic's history a client may ask for without saying since when.
pub const LAST_MESSAGES_MAX: u32 = 1_000;
/// Upper end of `--max-topics-per-client`: the longest list must fit in one client command.
pub const TOPICS_PER_CLIENT_MAX: usize = 1024;

/// Topics a shard remembers so that clients share one copy.
pub const SHARED_TOPICS: usize = 256;
/// Topic lists a shard remembers so that clients share one copy.
pub const SHARED_LISTS: usize = 64;
/// Topics of the longest list that is remembered: it keeps its memory while it is.
pub const SHARED_LIST_TOPICS: usize = 8;

/// Longest time a registration may be kept unconnected, milliseconds.
pub const REGISTRATION_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Shortest time between two pings to one client, milliseconds: one slot of the ping timer.
pub const PING_INTERVAL_MS_MIN: u64 = 100;
/// Longest time between two pings to one client, milliseconds.
pub const PING_INTERVAL_MS_MAX: u64 = 3_600_000;
/// Shortest time a client may be given to answer a ping, milliseconds.
pub const PONG_TIMEOUT_MS_MIN: u64 = 10;

/// Most shards of one node: a set of shards is one machine word.
pub const SHARDS_MAX: usize = 64;

/// Publications admitted and not yet in the log of every interested shard, per node.
pub const INFLIGHT_PUBLICATIONS: usize = 8_192;
/// Bytes of those publications, per node.
pub const INFLIGHT_BYTES: usize = 64 * 1024 * 1024;
/// The most that may be set for the first of these.
pub const INFLIGHT_PUBLICATIONS_MAX: usize = 1 << 20;
/// And for the second: they are counted in 32 bits.
pub const INFLIGHT_BYTES_MAX: usize = u32::MAX as usize;
/// Joins a shard may have under way at all homes together; further ones wait in the shard, in order.
pub const JOINS_INFLIGHT: usize = 256;
/// Kicks under way in the whole node; a further one waits in the handler that wants it.
pub const KICKS_INFLIGHT: usize = 1_024;
/// Questions about topics under way in the whole node; a further one waits in the handler that asks.
pub const QUERIES_INFLIGHT: usize = 256;
/// Topics with a record, per node, at their homes (`--max-topics`).
pub const TOPICS_MAX: usize = 1_000_000;
/// Largest `--max-topics`.
pub const TOPICS_MOST: usize = 100_000_000;
/// How long a topic nobody is interested in keeps its record and with it its epoch, milliseconds.
pub const TOPIC_IDLE_MS: u64 = 60_000;

/// Publications of one shard whose way to the sockets is measured at a time; further ones are not measured.
pub const MEASURED_PUBLICATIONS: usize = 4_096;

/// Publications with an idempotency key that are remembered, per node. Each home has an equal share for the topics it is
/// home to; at it the oldest is forgotten, and would be published again.
pub const IDEMPOTENCY_KEYS: usize = 100_000;
/// How long one is remembered, milliseconds.
pub const IDEMPOTENCY_MS: u64 = 300_000;
/// The most keys, and the longest time in milliseconds, that may be set.
pub const IDEMPOTENCY_KEYS_MAX: usize = 100_000_000;
/// See [`IDEMPOTENCY_KEYS_MAX`].
pub const IDEMPOTENCY_MS_MAX: u64 = 24 * 3_600_000;
/// How long a publisher waits for its receipt, milliseconds; then it is told what is known.
pub const RECEIPT_WAIT_MS: u64 = 5_000;

/// Publications of connected clients that may wait for credits, per shard; beyond it one that finds none is refused. A
/// client has one at most, and a message of a client is no longer than a command.
pub const CLIENT_PUBLICATIONS_WAITING: usize = 1_024;

/// Publications of one batch that is a JSON array.
pub const BATCH_ITEMS_MAX: usize = 1_000;
/// Publications of one batch under way at once.
pub const BATCH_UNDERWAY: usize = 64;
/// Batches in work, per shard; a further one gets 503.
pub const BATCHES_OPEN: usize = 64;
/// How long a batch that is a stream may be without a complete line, milliseconds.
pub const BATCH_LINE_MS: u64 = 30_000;
/// Bytes of results that may wait to be read by the client of such a batch; then no further line is read.
pub const BATCH_RESULTS_BYTES: usize = 64 * 1024;
/// How long they may, milliseconds; then the stream ends.
pub const BATCH_STALL_MS: u64 = 30_000;

/// API keys in the configuration.
pub const API_KEYS_MAX: usize = 256;
/// Longest name of an API key, bytes.
pub const API_KEY_NAME_BYTES_MAX: usize = 64;
/// Shortest API key in a file, bytes: what is shorter could be guessed.
pub const API_KEY_BYTES_MIN: usize = 20;
/// Longest API key, bytes; a longer one is not looked at.
pub const API_KEY_BYTES_MAX: usize = 256;
/// Longest token of a client, bytes; it fits into a line of a request's head.
pub const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// Topics and prefixes in one claim of a token.
pub const TOKEN_TOPICS_MAX: usize = 128;
/// Keys in a JSON Web Key Set.
pub const JWKS_KEYS_MAX: usize = 64;
/// Longest file with such a set, bytes.
pub const JWKS_FILE_BYTES: usize = 256 * 1024;
/// Shortest secret in it, bytes.
pub const TOKEN_SECRET_BYTES_MIN: usize = 32;
/// How far the clock of who issues tokens may differ from ours, milliseconds (`--token-leeway`).
pub const TOKEN_LEEWAY_MS: u64 = 5_000;
/// Upper end of `--token-leeway`, milliseconds.
pub const TOKEN_LEEWAY_MS_MAX: u64 = 300_000;
/// How long a client may take that connects without a token and has to send one on its socket, milliseconds.
pub const AUTH_WAIT_MS: u64 = 10_000;
/// Tokens one client may send at once on its socket: each counts as such a part of its commands at once.
pub const TOKENS_AT_ONCE: u32 = 20;
/// Origins of pages in the configuration.
pub const ORIGINS_MAX: usize = 256;

/// Longest configuration file, bytes.
pub const CONFIG_FILE_BYTES: usize = 4 * 1024 * 1024;

/// Topic classes in the configuration, the default one among them.
pub const CLASSES_MAX: usize = 256;
/// Exact names and prefixes that are given a class in the configuration.
pub const CLASS_RULES_MAX: usize = 4_096;
/// Longest name of a class in the configuration, bytes.
pub const CLASS_NAME_BYTES_MAX: usize = 64;
/// Most messages a topic's history may keep.
pub const HISTORY_MESSAGES_MAX: usize = 100_000;
/// Fewest bytes a topic's history may be given; the most are half of its class's outbox bound.
pub const HISTORY_BYTES_MIN: usize = 1024;
/// Shortest time a topic's history may keep a message, milliseconds.
pub const HISTORY_TTL_MS_MIN: u64 = 1_000;
/// Longest time a topic's history may keep a message, milliseconds.
pub const HISTORY_TTL_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// What a message in a history counts for besides its own bytes, bytes: what it takes in memory, and what its frame has
/// around it.
pub const HISTORY_MESSAGE_OVERHEAD: usize = 256;
/// What each topic of such a message counts for, if it went to several, besides its name, bytes.
pub const HISTORY_TOPIC_OVERHEAD: usize = 64;
/// Most messages of one answer about a topic's history.
pub const HISTORY_PAGE_MAX: usize = 1_000;
/// Messages of such an answer where nothing is said.
pub const HISTORY_PAGE: usize = 100;
/// Joins with a replay that a home handles between two publications; further ones wait there, in order.
pub const REPLAYS_BETWEEN_PUBLICATIONS: usize = 64;
/// Topics whose replay a shard keeps for a moment, so that those who come together share it.
pub const REPLAYS_SHARED: usize = 64;
/// How long it does so, milliseconds. Its frames are as old as that when they are queued for the last who shares them.
pub const REPLAY_SHARED_MS: u64 = 250;

/// Bytes of encoded frames in one log segment.
pub const SEGMENT_BYTES: usize = 64 * 1024;
/// From this size on, bytes, a frame is a segment of its own and its body is shared, not copied.
pub const LARGE_FRAME_BYTES: usize = 16 * 1024;
/// Bytes of encoded frames a shard may keep, over all its logs.
pub const LOG_BYTES: usize = 64 * 1024 * 1024;
/// The fewest that may be set.
pub const LOG_BYTES_MIN: usize = 16 * SEGMENT_BYTES;
/// Bytes that all shards of a node may hold together, queued and kept (`--memory`).
pub const MEMORY_BYTES: usize = 1024 * 1024 * 1024;
/// Smallest `--memory`.
pub const MEMORY_BYTES_MIN: usize = 4 * 1024 * 1024;
/// Largest `--memory`.
pub const MEMORY_BYTES_MAX: usize = 1 << 40;
/// From this part of it on, percent, queues of blocked subscribers are conflated.
pub const MEMORY_CONFLATE_PERCENT: usize = 70;
/// From this part on what classes let go is dropped from them, and the older half of histories.
pub const MEMORY_DROP_PERCENT: usize = 80;
/// From this part on those who hold the oldest frames are closed.
pub const MEMORY_CLOSE_PERCENT: usize = 90;
/// From this part on new publications are refused.
pub const MEMORY_REFUSE_PERCENT: usize = 100;
/// Queues of blocked subscribers, and histories, that are looked through in one turn for the sake of memory.
pub const MEMORY_LOOKED_THROUGH: usize = 16;
/// Segments that are compacted with one walk over the blocked list.
pub const MEMORY_SEGMENTS: usize = 16;
/// Ranges of queues from which on no further walk is begun in one turn to make room in the logs: some 200 µs.
pub const MEMORY_WALKED: usize = 64 * 1024;
/// Subscribers from whom a segment is taken in one turn to make room.
pub const MEMORY_LET_GO: usize = 256;
/// Bytes by which the logs of a shard may grow in one turn, whatever is left of the budget.
pub const MEMORY_TURN_BYTES: usize = 4 * SEGMENT_BYTES;
/// How far the logs of a shard may be over their bound before nothing is taken until there is room, bytes.
pub const LOG_SLACK_BYTES: usize = 8 * SEGMENT_BYTES;
/// Places of its tables that a shard looks at in one turn for connections that hold what they do not read, when that has to go.
pub const UNFLUSHED_LOOKED_THROUGH: u32 = 512;
/// How long nothing more of the histories of a home goes for the sake of memory when some has gone, milliseconds.
pub const MEMORY_HISTORIES_MS: u64 = 100;
/// Log bytes a shard may append before the subscriber that waits longest for the flush is flushed.
pub const SHARD_LAG_BYTES: usize = 256 * 1024;
/// The fewest that may be set.
pub const SHARD_LAG_BYTES_MIN: usize = 4 * 1024;

/// A blocked subscriber is behind from this many quarters of its bound on, and until it is down to two.
pub const BEHIND_QUARTERS: usize = 3;
/// A blocked subscriber whose socket took no byte for so long while it was looked at is stalled, milliseconds.
pub const STALLED_MS: u32 = 250;
/// What two looks at the sockets count at most, milliseconds: longer apart, the thread did not run, or somebody else's
/// may not have.
pub const LOOK_MS_MAX: u64 = 100;
/// How long a shard that holds back sleeps before it looks again, milliseconds.
pub const HELD_BACK_LOOK_MS: u64 = 2;
/// How long a shard holds back for subscribers that are behind and do not catch up, milliseconds.
pub const PATIENCE_MS: i64 = 25;
/// What was spent of that comes back: one millisecond in so many.
pub const PATIENCE_PARTS: u64 = 500;
/// Nothing of it is spent while one in so many subscribers of a shard, or more, has something queued and drains: then
/// it is the audience that is waited for.
pub const CROWD_PARTS: usize = 8;
/// Below this, milliseconds, no holding back begins.
pub const PATIENCE_LEAST_MS: i64 = 10;
/// Whoever catches up earns so many times what it was waited for.
pub const PATIENCE_EARNED_TIMES: u64 = 2;
/// How much patience with all together can be earned, milliseconds.
pub const PATIENCE_EARNED_MS: i64 = 400;
/// What was earned is forgotten when nobody was behind for so long, milliseconds.
pub const PATIENCE_FORGOTTEN_MS: u64 = 30_000;
/// How long a shard holds back for one subscriber, milliseconds, at once; more only as it comes back.
pub const PATIENCE_WITH_ONE_MS: i64 = 500;
/// That of all subscribers together comes back at so many times the time that passes.
pub const PATIENCE_RETURNS: usize = 2;

/// Bytes one blocked subscriber may have queued (`--outbox-bytes`).
pub const OUTBOX_BYTES: usize = 1024 * 1024;
/// Smallest `--outbox-bytes`: one message of the default size must always fit.
pub const OUTBOX_BYTES_MIN: usize = 64 * 1024;
/// Largest `--outbox-bytes`: two stalled clients must not fill a shard's log.
pub const OUTBOX_BYTES_MAX: usize = (LOG_BYTES - 16 * SEGMENT_BYTES) / 2;
/// What a frame has besides its message, bytes (RFC 6455 section 5.2: two, and eight of length).
pub const FRAME_HEADER_MAX: usize = 10;
/// Ranges and control entries one outbox may hold; beyond it the ranges are copied together.
pub const OUTBOX_RANGES: usize = 512;
/// Age of the oldest frame a blocked subscriber may have queued, milliseconds (`--outbox-age`).
pub const OUTBOX_AGE_MS: u64 = 60_000;
/// Smallest `--outbox-age`, milliseconds.
pub const OUTBOX_AGE_MS_MIN: u64 = 1_000;
/// Largest `--outbox-age`, milliseconds.
pub const OUTBOX_AGE_MS_MAX: u64 = 3_600_000;
/// Unsent bytes the kernel takes from one socket (`TCP_NOTSENT_LOWAT`).
pub const SOCKET_UNSENT: u32 = 128 * 1024;
/// Smallest `--socket-unsent` and `--socket-send-buffer`, bytes.
pub const SOCKET_BUFFER_MIN: usize = 4 * 1024;
/// Largest `--socket-unsent` and `--socket-send-buffer`, bytes.
pub const SOCKET_BUFFER_MAX: usize = 64 * 1024 * 1024;
/// Longest time that may be set for any other wait, milliseconds.
pub const WAIT_MS_MAX: u64 = 3_600_000;
/// Longest `--publish-wait`, milliseconds.
pub const PUBLISH_WAIT_MS_MAX: u64 = 60_000;
/// Slices handed to one `writev`.
pub const WRITE_SLICES: usize = 64;

/// Largest payload of a WebSocket control frame, bytes (RFC 6455 section 5.5).
pub const CONTROL_PAYLOAD_MAX: usize = 125;
/// Longest command of a client, bytes; more where `--max-topics-per-client` needs more.
pub const COMMAND_BYTES: usize = 64 * 1024;
/// What a topic in a client command may need, bytes: twice its name, an epoch and an offset.
pub const COMMAND_BYTES_PER_TOPIC: usize = 2 * (TOPIC_BYTES_MAX + 8) + 96;
/// How long a client's message may take from where it begins to where it ends, milliseconds.
pub const MESSAGE_MS: u64 = 30_000;
/// Bytes that messages of clients which have begun and not ended may take together, a shard; never less than one takes ...
pub const HALF_MESSAGES_BYTES: usize = 64 * 1024 * 1024;
/// ... and over all shards no more than one such part of `--memory`: strangers alone do not make it short, where four such fit.
pub const HALF_MESSAGES_PARTS: usize = 4;
/// What each counts besides its bytes.
pub const HALF_MESSAGE_COST: usize = 256;
/// Fragments one client message may come in.
pub const FRAGMENTS_MAX: u32 = 1_024;
/// Client messages and control frames taken from one connection per second, on average (`--commands-per-second`).
pub const COMMANDS_PER_SECOND: u32 = 100;
/// Client messages and control frames taken from one connection at once (`--commands-burst`).
pub const COMMANDS_BURST: u32 = 1_000;
/// Largest `--commands-per-second` and `--commands-burst`.
pub const COMMANDS_MAX: usize = 1_000_000;
/// So many fragments of a message count as one command more.
pub const FRAGMENTS_PER_COMMAND: u32 = 16;
/// Bytes read from one connection in one turn; also the size of a shard's read buffer.
pub const READ_TURN_BYTES: usize = 64 * 1024;
/// Frames taken from one connection in one turn.
pub const READ_TURN_FRAMES: usize = 64;

/// Connections between accept and their first response, per shard.
pub const HANDSHAKES_OPEN: usize = 32;
/// How long a connection may count as one of those, milliseconds from its accept on, whatever it has to say before its first
/// request; then it is just a connection. Whoever connects and says nothing delays the others by this, for as many at
/// a time as there are places. A short connection without a request ends then.
pub const HANDSHAKE_MS: u64 = 100;
/// The same for a short connection that has begun a TLS handshake, which takes a client round trips, milliseconds.
pub const TLS_SHORT_MS: u64 = 1_000;
/// HTTP requests in work, per shard.
pub const HTTP_OPEN: usize = 256;
/// Upgrades in work, per shard: apart from other requests, for publishers that wait must not keep the audience out.
pub const UPGRADES_OPEN: usize = 64;
/// Connections that speak HTTP (kept alive, or not yet upgraded), per shard; beyond it the longest idle is closed.
pub const HTTP_CONNECTIONS: usize = 4_096;
/// Registered clients, per node (`--max-registrations`).
pub const REGISTRATIONS_MAX: usize = 200_000;
/// Largest `--max-registrations`.
pub const REGISTRATIONS_MOST: usize = 10_000_000;
/// Deadlines of present and past registrations for each allowed registration, at which registering is refused. With
/// those of disconnects, which are not refused, there are at most one more for each.
pub const DEADLINES_PER_REGISTRATION: usize = 2;
/// Deadlines of registrations a shard looks at in one turn.
pub const DEADLINES_PER_TURN: usize = 1_024;
/// Bytes of an HTTP request's head.
pub const HTTP_HEAD_BYTES: usize = 16 * 1024;
/// Header lines of an HTTP request.
pub const HTTP_HEADERS_MAX: usize = 64;
/// Bytes of request bodies a shard collects at once, apart from the first piece of each; beyond it 503.
pub const HTTP_BODIES_BYTES: usize = 64 * 1024 * 1024;
/// How long an HTTP client may leave what is sent to it unread, milliseconds (`TCP_USER_TIMEOUT`).
pub const HTTP_UNREAD_MS: u64 = 60_000;
/// Bytes of answers held back for a moment so that they leave in one write.
pub const HTTP_CORKED_BYTES: usize = 16 * 1024;
/// Bytes read and thrown away behind the last answer of an HTTP connection, so that the answer is not lost to a reset.
pub const HTTP_DISCARD_BYTES: usize = 4 * 1024 * 1024;
/// Lines of the log that may wait to be written, in the process; a further one is lost and counted.
pub const LOG_LINES_WAITING: usize = 1_024;
/// Longest line of the log, bytes; a longer one is lost and counted.
pub const LOG_LINE_BYTES: usize = 16 * 1024;
/// How long a process that ends waits for its log to be written, milliseconds.
pub const LOG_FLUSH_MS: u64 = 1_000;
/// Connections begun in a second, of one address and in all, that may be begun at once: so many seconds' worth.
pub const HANDSHAKES_BURST_SECONDS: u64 = 5;
/// Most handshakes a second that can be set, of one address (`--handshakes-per-second-per-ip`) and in all
/// (`--handshakes-per-second`).
pub const HANDSHAKES_PER_SECOND_MAX: usize = 1_000_000;
/// Addresses of which it is known how fast they come; beyond it those with the least debt are forgotten.
pub const ADDRESSES_RATED: usize = 64 * 1024;
/// Time between two lines of the log about connections refused for one reason, milliseconds.
pub const REFUSALS_LOGGED_MS: u64 = 10_000;
/// Of the connections that there are descriptors for, clients leave one in so many to HTTP ...
pub const HTTP_SHARE: usize = 16;
/// ... but so many at least, if that is no more than half of them, ...
pub const HTTP_SHARE_LEAST: usize = 8;
/// ... and so many at most.
pub const HTTP_SHARE_MOST: usize = 1_024;
/// Most clients that can be allowed (`--max-connections`), and most connections of one address
/// (`--max-connections-per-ip`).
pub const CONNECTIONS_MAX: usize = 100_000_000;
/// Networks of proxies that can be trusted (`--trusted-proxies`).
pub const TRUSTED_PROXIES_MAX: usize = 256;
/// Addresses of an `X-Forwarded-For` that are looked at, from its end.
pub const FORWARDED_HOPS_MAX: usize = 16;
/// Longest header of the PROXY protocol, bytes: what its authors say must be taken.
pub const PROXY_HEADER_BYTES: usize = 536;
/// How long a trusted proxy may take for it, milliseconds from the accept on.
pub const PROXY_HEADER_MS: u64 = 5_000;
/// Longest file of a certificate or a key, bytes.
pub const TLS_FILE_BYTES: usize = 1024 * 1024;
/// How long a TLS handshake may take, milliseconds from the accept on; then the connection is closed.
pub const TLS_HANDSHAKE_MS: u64 = 10_000;
/// Bytes of one connection that may be read and not opened: the longest record with its header (RFC 5246 section 6.2.3, which
/// allows more than RFC 8446). A handshake message is no longer either; whoever sends more is closed.
pub const TLS_UNREAD_BYTES: usize = 5 + 16 * 1024 + 2 * 1024;
/// Bytes that become one record; also what may be kept, sealed, for a connection whose kernel takes no more.
pub const TLS_PIECE_BYTES: usize = 16 * 1024;
/// Bytes that the records of a client may take, with each frame of it, besides their payload and one part in
/// [`TLS_OVERHEAD_PARTS`] of it: some records in which a frame comes piece by piece.
pub const TLS_OVERHEAD_A_FRAME: u32 = 128;
/// See [`TLS_OVERHEAD_A_FRAME`].
pub const TLS_OVERHEAD_PARTS: usize = 8;
/// Such bytes that are free before the first frame.
pub const TLS_OVERHEAD_FREE: u32 = 1_024;
/// Beyond that so many of them count as a command.
pub const TLS_OVERHEAD_A_COMMAND: u32 = 32;
/// Below this many file descriptors the start-up warns.
pub const DESCRIPTORS_LOW: u64 = 4_096;
/// File descriptors kept back for everything that is not a client.
pub const DESCRIPTORS_RESERVED: usize = 16;

/// Connections of the admin listener; further ones wait until one of these ends. They come out of the reserve of
/// descriptors, so that the listener answers when clients have all others.
pub const ADMIN_CONNECTIONS: usize = 8;
/// How long a client of the admin listener may take for the head of its next request, milliseconds.
pub const ADMIN_HEAD_MS: u64 = 5_000;
/// How long an answer of the admin listener may take, the body of the request included, milliseconds; then it is 503.
pub const ADMIN_ANSWER_MS: u64 = 5_000;
/// How long a connection of the admin listener lives, milliseconds: whoever reads nothing gives its place back.
pub const ADMIN_CONNECTION_MS: u64 = 60_000;
/// How long it may go on then with the answer in work, milliseconds.
pub const ADMIN_LAST_MS: u64 = 1_000;
/// Bytes of a request body of the admin listener.
pub const ADMIN_BODY_BYTES: usize = 8 * 1024;
/// Shortest and longest admin key, bytes.
pub const ADMIN_KEY_BYTES: (usize, usize) = (16, 512);
/// Names under which the admin listener may be asked for (`--admin-host`).
pub const ADMIN_HOSTS_MAX: usize = 64;

/// Longest id that a caller may give its request (`X-Request-Id`), bytes; one that is longer is not taken over.
pub const REQUEST_ID_BYTES: usize = 64;
/// Lines of the log a second of one kind that strangers can cause; further ones are counted.
pub const LOG_LINES_PER_SECOND: u64 = 5;

/// Surveys of topics or clients under way in the whole node; a further one gets 503.
pub const SURVEYS_OPEN: usize = 2;
/// Places of its tables that a shard looks at for a survey before it goes on with its own work.
pub const SURVEYED_AT_ONCE: usize = 512;
/// Most topics or clients of one listing.
pub const LISTED_MAX: usize = 100;
/// Topics or clients of a listing where nothing is said.
pub const LISTED: usize = 20;
/// So many times the topics wanted are asked of each shard, because each knows its own subscribers only.
pub const LISTED_CANDIDATES: usize = 4;

/// Connections of a shard that came or went before it asks the allocator to give memory back.
pub const TRIM_AFTER_CONNECTIONS: usize = 512;
/// How long none may have come or gone then, milliseconds.
pub const TRIM_AFTER_MS: u64 = 1_000;

/// Bytes read and thrown away from a connection that is being closed.
pub const CLOSE_DISCARD_BYTES: usize = 64 * 1024;
/// Time a closing connection has, milliseconds.
pub const CLOSE_MS: u64 = 5_000;
/// Shortest `--max-connection-age`, milliseconds.
pub const AGE_MS_MIN: u64 = 1_000;
/// Longest `--max-connection-age`, milliseconds.
pub const AGE_MS_MAX: u64 = 7 * 24 * 3_600_000;
/// Longest time between two looks at the age of a connection, milliseconds.
pub const AGE_LOOK_MS_MAX: u64 = 10_000;
/// How long clients that are closed for a restart are asked to wait at least before they come back, milliseconds.
pub const RETRY_AFTER_MS: u64 = 500;
/// Over how long after that they are asked to spread, each at a time of its own choice: few of them, milliseconds.
pub const RETRY_SPREAD_MS: u64 = 5_000;
/// However many they are, milliseconds.
pub const RETRY_SPREAD_MS_MAX: u64 = 60_000;
/// Between the two, so that this many come back in a second.
pub const RETRY_PER_SECOND: u32 = 1_000;
/// Longest `--drain-delay` and `--drain-duration`, milliseconds.
pub const DRAIN_MS_MAX: u64 = 3_600_000;
/// Clients a shard closes in one turn while the node drains; the next turn goes on.
pub const DRAIN_CLOSES_A_TURN: usize = 256;
/// Time between two lines of log about a drain, milliseconds.
pub const DRAIN_PROGRESS_MS: u64 = 5_000;
/// How long `fanfare health` waits for an answer where nothing is said, milliseconds.
pub const PROBE_MS: u64 = 2_000;
/// Longest time between two lines of status for the service manager, milliseconds.
pub const SUPERVISOR_STATUS_MS: u64 = 10_000;
/// Looks at the shards in the time that a watchdog of the service manager waits.
pub const WATCHDOG_LOOKS: u32 = 4;
/// Shortest time between two of them, milliseconds: a shard turns each 100 ms.
pub const WATCHDOG_LOOK_MS_MIN: u64 = 250;
/// Time the whole of stopping has, milliseconds.
pub const STOP_MS: u64 = 10_000;

const _: () = assert!(RETRY_SPREAD_MS <= RETRY_SPREAD_MS_MAX && RETRY_PER_SECOND > 0);
const _: () = assert!(BATCH_STALL_MS < HTTP_UNREAD_MS, "the last line of a batch is not lost to a reset");
const _: () =
    assert!(ADMIN_CONNECTIONS + 4 <= DESCRIPTORS_RESERVED, "and the files that its figures are read from");
const _: () = assert!(IDEMPOTENCY_KEYS >= SHARDS_MAX);
const _: () = assert!(PUBLISH_TOPICS_MAX <= INFLIGHT_PUBLICATIONS);
const _: () = assert!(OUTBOX_BYTES_MIN >= 2 * LARGE_FRAME_BYTES);
const _: () = assert!(LAST_MESSAGES_MAX as usize <= HISTORY_MESSAGES_MAX);
const _: () = assert!(BODY_BESIDES_MESSAGE >= PUBLISH_TOPICS_MAX * (TOPIC_BYTES_MAX + 4));
const _: () = assert!(COMMAND_BYTES >= TOPICS_PER_CLIENT * COMMAND_BYTES_PER_TOPIC);
const _: () = assert!(PATIENCE_LEAST_MS < PATIENCE_MS && PATIENCE_MS <= PATIENCE_EARNED_MS);
const _: () = assert!(HELD_BACK_LOOK_MS as i64 <= PATIENCE_LEAST_MS && HELD_BACK_LOOK_MS <= LOOK_MS_MAX);
const _: () =
    assert!(MEMORY_CONFLATE_PERCENT < MEMORY_DROP_PERCENT && MEMORY_DROP_PERCENT < MEMORY_CLOSE_PERCENT);
const _: () = assert!(MEMORY_CLOSE_PERCENT < MEMORY_REFUSE_PERCENT && MEMORY_BYTES >= 8 * LOG_BYTES);
const _: () = assert!(HANDSHAKE_MS <= PROXY_HEADER_MS && HANDSHAKE_MS <= TLS_SHORT_MS);
const _: () = assert!(SHARD_LAG_BYTES <= OUTBOX_BYTES / 2);
const _: () = assert!(BODY_BYTES >= JSON_INFLATION * MESSAGE_BYTES + BODY_BESIDES_MESSAGE);
const _: () = assert!(HTTP_BODIES_BYTES >= JSON_INFLATION * MESSAGE_BYTES_MAX + BODY_BESIDES_MESSAGE);
const _: () = assert!(OUTBOX_BYTES_MAX >= 2 * (MESSAGE_BYTES_MAX + FRAME_HEADER_MAX));
const _: () = assert!(HTTP_BODIES_BYTES >= BODY_BYTES);
const _: () =
    assert!(CONFIG_FILE_BYTES >= 4 * CLASS_RULES_MAX * TOPIC_BYTES_MAX, "every rule can be written");
const _: () = assert!(HISTORY_BYTES_MIN <= OUTBOX_BYTES_MIN / 2);
const _: () = assert!(HTTP_DISCARD_BYTES >= BODY_BYTES);
const _: () = assert!(LARGE_FRAME_BYTES <= SEGMENT_BYTES);
const _: () = assert!(TLS_UNREAD_BYTES <= READ_TURN_BYTES, "what one read opens fits in the read buffer");
const _: () = assert!(TLS_PIECE_BYTES <= 16 * 1024, "a record holds no more");
const _: () = assert!(100 / HALF_MESSAGES_PARTS < MEMORY_CONFLATE_PERCENT, "nobody pays for them alone");
const _: () = assert!(WRITE_SLICES <= 1024, "IOV_MAX on Linux");
const _: () = assert!(LOG_BYTES >= 16 * SEGMENT_BYTES + 2 * OUTBOX_BYTES);
