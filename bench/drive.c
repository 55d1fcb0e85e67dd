/* Sends prepared requests over many connections and times the answers.
 *
 *   drive PORT PROTOCOL CONNECTIONS SECONDS RATE OFFSET FILE
 *
 * PROTOCOL is http, memcached or nats. SECONDS below zero are a number of requests instead. With
 * RATE 0 the loop is closed: each connection sends its next request when the answer to the last has
 * come. With a RATE the loop is open: request n is due n/RATE seconds after the start, whatever the
 * server does, and its time runs from then on, so that waiting for a free connection counts.
 *
 * FILE holds requests, taken in turn from the OFFSET-th on, over and over. Each is three numbers of
 * four bytes and then its bytes: its length, the status of the right answer (0 for any) and the
 * size of its body (-1 for any). What is answered otherwise is an error. Of memcached and nats the
 * status is 200 or 404; a nats request is a subject, to which the connection's inbox is added.
 *
 * One thread, no dependency. An open loop hardly sleeps, so give it a core of its own.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    BUFFER_BYTES = 1 << 16,
    SKIP_BYTES = 1 << 20,
    CONNECTIONS_MAX = 4096,
    EVENTS_MAX = 256,
    SAMPLES_FIRST = 1 << 20,
    COMPLAINT_BYTES = 400,
    GRACE_S = 30,
    SPIN_NS = 30 * 1000, /* as long as this before something is due, an open loop does not sleep */
};

enum protocol { HTTP, MEMCACHED, NATS };
enum phase { HEAD, BODY, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER };

struct request {
    uint32_t length, status;
    int32_t size;
    const char *bytes;
};

struct connection {
    int fd, number, busy;
    const struct request *request;
    int64_t due;
    char tail[64]; /* what is sent behind the request's bytes */
    uint32_t tail_length, sent;
    enum phase phase;
    int status, keep_alive;
    int64_t left, size;
    size_t held;
    char buffer[BUFFER_BYTES];
};

static enum protocol protocol;
static int port, poller;
static struct request *requests;
static size_t request_count, next_request;
static uint32_t *samples;
static size_t sample_count, sample_room;
static uint64_t body_bytes, errors, late, unsent;
static char complaint[COMPLAINT_BYTES];
static int64_t largest;

static void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(2);
}

static int64_t now_ns(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void load(const char *path) {
    int fd = open(path, O_RDONLY);
    struct stat about;
    if (fd < 0 || fstat(fd, &about) || !about.st_size) die("%s cannot be read", path);
    char *from = mmap(NULL, about.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    if (from == MAP_FAILED) die("%s cannot be mapped", path);
    size_t room = 0;
    for (char *at = from, *end = from + about.st_size; at < end;) {
        if (request_count == room) {
            room = room ? room * 2 : 1024;
            requests = realloc(requests, room * sizeof *requests);
        }
        struct request *one = &requests[request_count++];
        memcpy(one, at, 12);
        one->bytes = at + 12;
        at += 12 + one->length;
        if (at > end) die("%s is cut short", path);
    }
}

static void complain(struct connection *c, const char *what) {
    if (!errors++) {
        snprintf(complaint, sizeof complaint, "%s: status %d, %lld bytes, to %.*s", what, c->status,
                 (long long)c->size, (int)(c->request->length < 120 ? c->request->length : 120),
                 c->request->bytes);
    }
}

static void watch(struct connection *c, int how, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, how, c->fd, &event)) die("epoll: %s", strerror(errno));
}

static void write_all(int fd, const char *bytes, size_t length) {
    while (length) {
        ssize_t wrote = write(fd, bytes, length);
        if (wrote < 0) die("cannot write: %s", strerror(errno));
        bytes += wrote;
        length -= wrote;
    }
}

static void connect_it(struct connection *c) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int one = 1;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to))
        die("cannot connect: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (protocol == NATS) {
        char hello[160];
        ssize_t got = 0; /* INFO is one line, which says nothing that we need */
        do {
            got = read(c->fd, c->buffer, sizeof c->buffer);
            if (got <= 0) die("nats hung up");
        } while (c->buffer[got - 1] != '\n');
        int length = snprintf(hello, sizeof hello,
                              "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}"
                              "\r\nSUB _IN.%d.%d 1\r\n", getpid(), c->number);
        write_all(c->fd, hello, length);
        c->tail_length = snprintf(c->tail, sizeof c->tail, " _IN.%d.%d 0\r\n\r\n", getpid(),
                                  c->number);
    }
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->held = 0;
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
}

/* Sends what is left of the request; the tail goes with it, so that both are one segment. */
static void send_more(struct connection *c) {
    const struct request *r = c->request;
    char small[4096];
    while (c->sent < r->length + c->tail_length) {
        const char *from = r->bytes + c->sent;
        size_t length = r->length - c->sent;
        if (c->tail_length) {
            if (r->length + c->tail_length > sizeof small) die("a request is too long");
            memcpy(small, r->bytes, r->length);
            memcpy(small + r->length, c->tail, c->tail_length);
            from = small + c->sent;
            length = r->length + c->tail_length - c->sent;
        }
        ssize_t wrote = send(c->fd, from, length, MSG_NOSIGNAL);
        if (wrote < 0 && errno == EAGAIN) {
            watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return;
        }
        if (wrote < 0) die("cannot send: %s", strerror(errno));
        c->sent += wrote;
    }
}

static void begin(struct connection *c, int64_t due) {
    c->request = &requests[next_request];
    next_request = next_request + 1 == request_count ? 0 : next_request + 1;
    c->busy = 1;
    c->due = due;
    c->sent = 0;
    c->phase = HEAD;
    c->size = c->left = 0;
    c->keep_alive = 1;
    send_more(c);
}

static void finish(struct connection *c) {
    int64_t took = now_ns() - c->due;
    if (sample_count == sample_room) {
        sample_room = sample_room ? sample_room * 2 : SAMPLES_FIRST;
        samples = realloc(samples, sample_room * sizeof *samples);
        if (!samples) die("no memory for samples");
    }
    /* In tens of nanoseconds, 43 seconds at most. */
    samples[sample_count++] = took / 10 > UINT32_MAX ? UINT32_MAX : took / 10;
    if (took > largest) largest = took;
    body_bytes += c->size;
    if ((c->request->status && (uint32_t)c->status != c->request->status) ||
        (c->request->size >= 0 && c->size != c->request->size))
        complain(c, "wrong answer");
    c->busy = 0;
    if (!c->keep_alive) {
        close(c->fd);
        connect_it(c);
    }
}

static void drop(struct connection *c, size_t bytes) {
    memmove(c->buffer, c->buffer + bytes, c->held - bytes);
    c->held -= bytes;
}

static const char *header(const char *head, const char *name) {
    const char *found = strcasestr(head, name);
    return found ? found + strlen(name) : NULL;
}

/* Reads the head of an HTTP answer; returns whether all of it was there. */
static int http_head(struct connection *c) {
    char *end = memmem(c->buffer, c->held, "\r\n\r\n", 4);
    if (!end) {
        if (c->held == BUFFER_BYTES) die("a head is too long");
        return 0;
    }
    end[2] = 0;
    c->status = atoi(c->buffer + 9);
    const char *length = header(c->buffer, "\r\nContent-Length:");
    const char *chunked = header(c->buffer, "\r\nTransfer-Encoding: chunked");
    c->keep_alive = !header(c->buffer, "\r\nConnection: close");
    c->left = length ? atoll(length) : 0;
    c->phase = chunked ? CHUNK_SIZE : BODY;
    if (!length && !chunked && c->status != 304 && c->status != 204)
        die("an answer without a length: %s", c->buffer);
    drop(c, end + 4 - c->buffer);
    return 1;
}

/* Takes one line of a chunked body; returns its length with its end, 0 if it is not all there. */
static size_t line(struct connection *c) {
    char *end = memmem(c->buffer, c->held, "\r\n", 2);
    return end ? end + 2 - c->buffer : 0;
}

/* Returns whether an HTTP answer is complete. */
static int http_more(struct connection *c) {
    for (;;) {
        size_t taken;
        switch (c->phase) {
        case HEAD:
            if (!http_head(c)) return 0;
            break;
        case BODY:
        case CHUNK_DATA:
            taken = (int64_t)c->held < c->left ? c->held : (size_t)c->left;
            c->left -= taken;
            c->size += taken;
            drop(c, taken);
            if (c->left) return 0;
            if (c->phase == BODY) return 1;
            c->phase = CHUNK_END;
            break;
        case CHUNK_END:
        case TRAILER:
            if (!(taken = line(c))) return 0;
            drop(c, taken);
            if (c->phase == TRAILER && taken == 2) return 1;
            c->phase = c->phase == TRAILER ? TRAILER : CHUNK_SIZE;
            break;
        case CHUNK_SIZE:
            if (!(taken = line(c))) return 0;
            c->left = strtoll(c->buffer, NULL, 16);
            c->phase = c->left ? CHUNK_DATA : TRAILER;
            drop(c, taken);
            break;
        }
    }
}

static int memcached_more(struct connection *c) {
    size_t taken = line(c);
    long long size;
    if (!taken) return 0;
    if (!memcmp(c->buffer, "END\r\n", 5)) {
        c->status = 404;
    } else if (sscanf(c->buffer, "VALUE %*s %*u %lld", &size) == 1) {
        if (c->held < taken + size + 7) return 0;
        c->status = 200;
        c->size = size;
        taken += size + 7;
    } else {
        c->status = 500;
    }
    drop(c, taken);
    return 1;
}

static int nats_more(struct connection *c) {
    for (;;) {
        long long head = 0, all;
        size_t taken = line(c);
        if (!taken) return 0;
        if (!memcmp(c->buffer, "PING", 4)) {
            write_all(c->fd, "PONG\r\n", 6);
            drop(c, taken);
            continue;
        }
        int with_head = sscanf(c->buffer, "HMSG %*s %*s %lld %lld", &head, &all) == 2;
        if (!with_head && sscanf(c->buffer, "MSG %*s %*s %lld", &all) != 1) {
            if (c->buffer[0] == '-') die("nats says %.*s", (int)taken, c->buffer);
            drop(c, taken);
            continue;
        }
        if (c->held < taken + all + 2) return 0;
        /* "NATS/1.0 404 Message Not Found" heads what is missing, "NATS/1.0" what is there. */
        c->status = with_head && c->buffer[taken + 8] == ' ' ? atoi(c->buffer + taken + 9) : 200;
        c->size = all - head;
        drop(c, taken + all + 2);
        return 1;
    }
}

static int more(struct connection *c) {
    switch (protocol) {
    case HTTP: return http_more(c);
    case MEMCACHED: return memcached_more(c);
    default: return nats_more(c);
    }
}

/* Takes a part of a long body from the socket without copying it, but never the end: that is read,
 * and ends the answer. */
static ssize_t skip(struct connection *c) {
    ssize_t got = recv(c->fd, NULL, c->left <= SKIP_BYTES ? c->left - 1 : SKIP_BYTES, MSG_TRUNC);
    if (got > 0) {
        c->left -= got;
        c->size += got;
    }
    return got;
}

/* Reads what is there; returns whether the answer is complete. */
static int receive(struct connection *c) {
    for (;;) {
        int skips = protocol == HTTP && c->busy && c->phase == BODY && c->left > BUFFER_BYTES;
        ssize_t got = skips ? skip(c) : read(c->fd, c->buffer + c->held, BUFFER_BYTES - c->held);
        if (got < 0 && errno == EAGAIN) return 0;
        if (got <= 0) {
            if (c->busy) die("the server hung up on %.*s", (int)c->request->length,
                             c->request->bytes);
            close(c->fd);
            connect_it(c);
            return 0;
        }
        if (skips) continue;
        int filled = c->held + got == BUFFER_BYTES;
        c->held += got;
        if (!c->busy && protocol == HTTP) die("an answer that nobody asked for");
        if (!c->busy && protocol == NATS) {
            nats_more(c);
            return 0;
        }
        if (more(c)) return 1;
        if (!filled) return 0;
    }
}

static int ascending(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static double percentile(double share) {
    size_t at = (size_t)(share * sample_count);
    return samples[at < sample_count ? at : sample_count - 1] / 100.0;
}

static void report(int64_t began, int64_t ended) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    if (!sample_count) die("no answer came");
    qsort(samples, sample_count, sizeof *samples, ascending);
    for (char *at = complaint; *at; at++)
        if (*at == '"' || *at == '\\' || !isprint((unsigned char)*at)) *at = ' ';
    printf("{\"requests\": %zu, \"duration_us\": %lld, \"p50_us\": %.2f, \"p90_us\": %.2f, "
           "\"p99_us\": %.2f, \"p999_us\": %.2f, \"max_us\": %.2f, \"errors\": %llu, "
           "\"body_bytes\": %llu, \"late\": %llu, \"unsent\": %llu, \"own_cpu_us\": %lld, "
           "\"complaint\": \"%s\"}\n",
           sample_count, (long long)(ended - began) / 1000, percentile(0.5), percentile(0.9),
           percentile(0.99), percentile(0.999), largest / 1e3, (unsigned long long)errors,
           (unsigned long long)body_bytes, (unsigned long long)late, (unsigned long long)unsent,
           (long long)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000 +
               used.ru_utime.tv_usec + used.ru_stime.tv_usec,
           complaint);
}

/* Answers are complete one by one; each frees a connection, on which the next request may go. */
static void run(struct connection **all, int count, double seconds, double rate) {
    struct epoll_event events[EVENTS_MAX];
    struct connection *idle[CONNECTIONS_MAX];
    int idle_count = 0, busy = 0;
    uint64_t issued = 0, limit = seconds < 0 ? (uint64_t)-seconds : UINT64_MAX;
    int64_t began = now_ns(), ended;
    int64_t stop = seconds < 0 ? INT64_MAX : began + (int64_t)(seconds * 1e9);
    double gap = rate > 0 ? 1e9 / rate : 0;
    for (int n = 0; n < count; n++) idle[idle_count++] = all[n];
    for (;;) {
        int64_t now = now_ns();
        if (issued == limit) stop = now < stop ? now : stop;
        while (idle_count && now < stop && issued < limit) {
            int64_t due = rate > 0 ? began + (int64_t)(issued * gap) : now;
            if (due > now || due >= stop) break;
            if (rate > 0 && now - due > 1000000) late++;
            begin(idle[--idle_count], due);
            issued++;
            busy++;
        }
        if (now >= stop && (!busy || now > stop + GRACE_S * 1000000000LL)) break;
        int64_t next = began + (int64_t)(issued * gap);
        if (rate == 0 || !idle_count || now >= stop) next = now + 100000000;
        int64_t wait = next - now - SPIN_NS;
        struct timespec for_ns = {.tv_nsec = wait < 0 ? 0 : wait > 100000000 ? 100000000 : wait};
        int found = epoll_pwait2(poller, events, EVENTS_MAX, &for_ns, NULL);
        for (int n = 0; n < found; n++) {
            struct connection *c = events[n].data.ptr;
            if (events[n].events & EPOLLOUT) {
                watch(c, EPOLL_CTL_MOD, EPOLLIN);
                send_more(c);
            }
            if (events[n].events & ~EPOLLOUT && receive(c)) {
                finish(c);
                busy--;
                if (rate == 0 && issued < limit && now_ns() < stop) {
                    begin(c, now_ns());
                    issued++;
                    busy++;
                } else {
                    idle[idle_count++] = c;
                }
            }
        }
    }
    ended = now_ns();
    if (seconds > 0 && rate * seconds > issued + 1) unsent = (uint64_t)(rate * seconds) - issued;
    if (busy) die("%d requests were not answered", busy);
    report(began, ended);
}

int main(int count, char **given) {
    if (count != 8) die("usage: drive PORT PROTOCOL CONNECTIONS SECONDS RATE OFFSET FILE");
    port = atoi(given[1]);
    protocol = !strcmp(given[2], "http") ? HTTP : !strcmp(given[2], "nats") ? NATS : MEMCACHED;
    int connections = atoi(given[3]);
    if (connections < 1 || connections > CONNECTIONS_MAX) die("how many connections?");
    load(given[7]);
    next_request = (size_t)atoll(given[6]) % request_count;
    prctl(PR_SET_TIMERSLACK, 1L);
    poller = epoll_create1(0);
    struct connection **all = calloc(connections, sizeof *all);
    for (int n = 0; n < connections; n++) {
        all[n] = calloc(1, sizeof **all);
        all[n]->number = n;
        connect_it(all[n]);
    }
    run(all, connections, atof(given[4]), atof(given[5]));
    return 0;
}
