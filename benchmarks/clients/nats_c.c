/* nats.c, the C client: the same measurements as driver.py and driver_jetstream.py, with the same arguments and the same line of JSON.
 *
 *     cc -O2 -o nats_c nats_c.c -lnats -lpthread
 *     nats_c kind=publish url=nats://127.0.0.1:4222 count=100000 size=128
 *
 * Without arguments it prints the version of the library, and with "kinds" alone what it can measure.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <nats/nats.h>

#define SUBJECT "bench.subject"
#define FEED "bench.feed"
#define ECHO "bench.echo"
#define STREAM "BENCH"
#define CONSUMER "worker"
#define FETCH 500
#define REQUEST_MS 30000
#define FLUSH_MS 30000
#define MOST_IN_FLIGHT 1024

static struct {
    const char *kind, *url, *ca;
    int64_t count, warmup, size, in_flight;
    double seconds;
} job = {.kind = "", .url = "", .ca = "", .in_flight = 1, .seconds = 3.0};

static struct {
    double wall, user, system;
    double begun, user_before, system_before;
} watch;

static void check(natsStatus status, const char *what) {
    if (status != NATS_OK) {
        fprintf(stderr, "%s: %s\n", what, natsStatus_GetText(status));
        nats_PrintLastErrorStack(stderr);
        exit(1);
    }
}

/* --- the clock -------------------------------------------------------------------------------------------- */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static double seconds(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

static void start_clock(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    watch.user_before = seconds(usage.ru_utime);
    watch.system_before = seconds(usage.ru_stime);
    watch.begun = now();
}

static void stop_clock(void) {
    struct rusage usage;
    watch.wall += now() - watch.begun;
    getrusage(RUSAGE_SELF, &usage);
    watch.user += seconds(usage.ru_utime) - watch.user_before;
    watch.system += seconds(usage.ru_stime) - watch.system_before;
}

static void reset_clock(void) { watch.wall = watch.user = watch.system = 0; }

static void finish(int64_t count, const char *more) {
    printf("{\"count\": %lld, \"wall\": %.9f, \"user\": %.6f, \"system\": %.6f%s}\n", (long long)count, watch.wall, watch.user,
           watch.system, more);
    fflush(stdout);
    _exit(0);
}

/* --- connecting ------------------------------------------------------------------------------------------- */

static natsConnection *connect_client(void) {
    natsOptions *options = NULL;
    natsConnection *nc = NULL;
    check(natsOptions_Create(&options), "options");
    check(natsOptions_SetURL(options, job.url), "url");
    if (*job.ca) {
        check(natsOptions_SetSecure(options, true), "secure");
        check(natsOptions_LoadCATrustedCertificates(options, job.ca), "ca");
        check(natsOptions_SetExpectedHostname(options, "127.0.0.1"), "host name");
    }
    /* A thread for each of 100,000 subscriptions cannot be had: the library's pool is meant for that. */
    if (strcmp(job.kind, "memory") == 0) check(natsOptions_UseGlobalMessageDelivery(options, true), "global delivery");
    check(natsConnection_Connect(&nc, options), "connect");
    natsOptions_Destroy(options);
    return nc;
}

static void flush(natsConnection *nc) { check(natsConnection_FlushTimeout(nc, FLUSH_MS), "flush"); }

/* --- publishing ------------------------------------------------------------------------------------------- */

static void publish_many(natsConnection *nc, const char *payload, int64_t count) {
    for (int64_t i = 0; i < count; i++) check(natsConnection_Publish(nc, SUBJECT, payload, (int)job.size), "publish");
}

static void publish(natsConnection *nc, const char *payload) {
    publish_many(nc, payload, job.warmup);
    flush(nc);
    start_clock();
    publish_many(nc, payload, job.count);
    flush(nc);
    stop_clock();
    finish(job.count, "");
}

/* --- receiving -------------------------------------------------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t reached;
    int64_t seen, target;
    bool done;
} counter = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, false};

/* One thread calls it, so that what it counts needs no lock. */
static void count_message(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure) {
    (void)nc, (void)sub, (void)closure;
    natsMsg_Destroy(msg);
    if (++counter.seen != counter.target) return;
    stop_clock();
    pthread_mutex_lock(&counter.lock);
    counter.done = true;
    pthread_cond_signal(&counter.reached);
    pthread_mutex_unlock(&counter.lock);
}

static void expect(int64_t count) {
    reset_clock();
    counter.seen = 0;
    counter.target = count;
    counter.done = false;
}

static void wait_for_count(void) {
    pthread_mutex_lock(&counter.lock);
    while (!counter.done) pthread_cond_wait(&counter.reached, &counter.lock);
    pthread_mutex_unlock(&counter.lock);
}

static void order(natsConnection *nc, int64_t count) {
    char text[128];
    snprintf(text, sizeof text, SUBJECT " %lld %lld 0", (long long)job.size, (long long)count);
    check(natsConnection_PublishString(nc, FEED, text), "order");
}

static natsSubscription *subscribe(natsConnection *nc, natsMsgHandler handler) {
    natsSubscription *sub = NULL;
    if (handler != NULL)
        check(natsConnection_Subscribe(&sub, nc, SUBJECT, handler, NULL), "subscribe");
    else
        check(natsConnection_SubscribeSync(&sub, nc, SUBJECT), "subscribe");
    /* Its threads read faster than they handle: without this it would drop, where the others are slower and do not. */
    check(natsSubscription_SetPendingLimits(sub, -1, -1), "limits");
    flush(nc);
    return sub;
}

static void receive(natsConnection *nc, const char *payload) {
    (void)payload;
    subscribe(nc, count_message);
    for (int round = job.warmup ? 0 : 1; round < 2; round++) {
        int64_t count = round ? job.count : job.warmup;
        expect(count);
        start_clock();
        order(nc, count);
        wait_for_count();
    }
    finish(job.count, "");
}

static void iterate(natsConnection *nc, const char *payload) {
    (void)payload;
    natsSubscription *sub = subscribe(nc, NULL);
    for (int round = job.warmup ? 0 : 1; round < 2; round++) {
        int64_t count = round ? job.count : job.warmup;
        reset_clock();
        start_clock();
        order(nc, count);
        for (int64_t i = 0; i < count; i++) {
            natsMsg *msg = NULL;
            check(natsSubscription_NextMsg(&msg, sub, REQUEST_MS), "next");
            natsMsg_Destroy(msg);
        }
        stop_clock();
    }
    finish(job.count, "");
}

static void pubsub(natsConnection *nc, const char *payload) {
    subscribe(nc, count_message);
    for (int round = job.warmup ? 0 : 1; round < 2; round++) {
        int64_t count = round ? job.count : job.warmup;
        expect(count);
        start_clock();
        publish_many(nc, payload, count);
        wait_for_count();
    }
    finish(job.count, "");
}

/* --- requests --------------------------------------------------------------------------------------------- */

static void request(natsConnection *nc, const char *subject, const char *payload) {
    natsMsg *reply = NULL;
    check(natsConnection_Request(&reply, nc, subject, payload, (int)job.size, REQUEST_MS), "request");
    natsMsg_Destroy(reply);
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void latency(natsConnection *nc, const char *payload) {
    double *trips = calloc((size_t)job.count, sizeof *trips);
    char more[128];
    int64_t made = 0;
    for (int64_t i = 0; i < job.warmup; i++) request(nc, ECHO, payload);
    start_clock();
    double end = now() + job.seconds;
    while (made < job.count) {
        double begun = now();
        request(nc, ECHO, payload);
        double over = now();
        trips[made++] = over - begun;
        if (over > end) break;
    }
    stop_clock();
    qsort(trips, (size_t)made, sizeof *trips, compare);
    double middle = (trips[(made - 1) / 2] + trips[made / 2]) / 2;
    snprintf(more, sizeof more, ", \"p50_us\": %.3f, \"p99_us\": %.3f", middle * 1e6, trips[made * 99 / 100] * 1e6);
    finish(made, more);
}

static void answer(natsConnection *nc, natsSubscription *sub, natsMsg *msg, void *closure) {
    (void)sub, (void)closure;
    check(natsConnection_Publish(nc, natsMsg_GetReply(msg), natsMsg_GetData(msg), natsMsg_GetDataLength(msg)), "answer");
    natsMsg_Destroy(msg);
}

static struct {
    natsConnection *nc;
    const char *payload;
    int64_t each;
} asking;

static void *ask(void *unused) {
    (void)unused;
    for (int64_t i = 0; i < asking.each; i++) request(asking.nc, SUBJECT, asking.payload);
    nats_ReleaseThreadMemory();
    return NULL;
}

/* Its requests block, so that a request in flight is a thread. */
static void requests(natsConnection *nc, const char *payload) {
    pthread_t threads[MOST_IN_FLIGHT];
    if (job.in_flight > MOST_IN_FLIGHT) check(NATS_INVALID_ARG, "in_flight");
    subscribe(nc, answer);
    for (int round = job.warmup ? 0 : 1; round < 2; round++) {
        asking.nc = nc;
        asking.payload = payload;
        asking.each = (round ? job.count : job.warmup) / job.in_flight;
        reset_clock();
        start_clock();
        for (int i = 0; i < job.in_flight; i++)
            if (pthread_create(&threads[i], NULL, ask, NULL)) check(NATS_SYS_ERROR, "thread");
        for (int i = 0; i < job.in_flight; i++) pthread_join(threads[i], NULL);
        stop_clock();
    }
    finish(asking.each * job.in_flight, "");
}

/* --- connections and subscriptions ------------------------------------------------------------------------ */

static void connect_often(void) {
    for (int64_t i = 0; i < job.warmup; i++) natsConnection_Destroy(connect_client());
    for (int64_t i = 0; i < job.count; i++) {
        start_clock();
        natsConnection *nc = connect_client();
        stop_clock();
        natsConnection_Destroy(nc);
    }
    finish(job.count, "");
}

static long resident(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file == NULL || fscanf(file, "%*s %ld", &pages) != 1) check(NATS_IO_ERROR, "/proc/self/statm");
    fclose(file);
    return pages * sysconf(_SC_PAGESIZE);
}

static void hold(natsConnection *nc, const char *prefix, int64_t count) {
    char subject[64];
    natsSubscription *sub = NULL;
    for (int64_t i = 0; i < count; i++) {
        snprintf(subject, sizeof subject, "bench.%s.%lld", prefix, (long long)i);
        check(natsConnection_Subscribe(&sub, nc, subject, count_message, NULL), "subscribe");
        if (i % 1000 == 0) flush(nc);
    }
    flush(nc);
}

static void memory(natsConnection *nc, const char *payload) {
    char more[64];
    (void)payload;
    hold(nc, "warmup", job.warmup);
    long before = resident();
    start_clock();
    hold(nc, "hold", job.count);
    stop_clock();
    snprintf(more, sizeof more, ", \"bytes_each\": %.1f", (double)(resident() - before) / job.count);
    finish(job.count, more);
}

/* --- JetStream -------------------------------------------------------------------------------------------- */

static jsCtx *jetstream(natsConnection *nc) {
    jsCtx *js = NULL;
    jsOptions options;
    check(jsOptions_Init(&options), "options");
    /* The window that the others have by default. Where the server is slow for once, it is to wait. */
    options.PublishAsync.MaxPending = 4000;
    options.PublishAsync.StallWait = REQUEST_MS;
    check(natsConnection_JetStream(&js, nc, &options), "jetstream");
    return js;
}

static void js_publish_many(jsCtx *js, const char *payload, int64_t count) {
    for (int64_t i = 0; i < count; i++) check(js_Publish(NULL, js, SUBJECT, payload, (int)job.size, NULL, NULL), "js publish");
}

static void js_publish_sync(natsConnection *nc, const char *payload) {
    jsCtx *js = jetstream(nc);
    js_publish_many(js, payload, job.warmup);
    start_clock();
    js_publish_many(js, payload, job.count);
    stop_clock();
    finish(job.count, "");
}

static void js_publish_window(jsCtx *js, const char *payload, int64_t count) {
    for (int64_t i = 0; i < count; i++) check(js_PublishAsync(js, SUBJECT, payload, (int)job.size, NULL), "js publish async");
    check(js_PublishAsyncComplete(js, NULL), "js complete");
}

static void js_publish_async(natsConnection *nc, const char *payload) {
    jsCtx *js = jetstream(nc);
    js_publish_window(js, payload, job.warmup);
    start_clock();
    js_publish_window(js, payload, job.count);
    stop_clock();
    finish(job.count, "");
}

static void js_take(natsSubscription *sub, int64_t count) {
    while (count > 0) {
        natsMsgList list;
        check(natsSubscription_Fetch(&list, sub, count < FETCH ? (int)count : FETCH, REQUEST_MS, NULL), "fetch");
        for (int i = 0; i < list.Count; i++) check(natsMsg_Ack(list.Msgs[i], NULL), "ack");
        count -= list.Count;
        natsMsgList_Destroy(&list);
    }
}

static void js_consume(natsConnection *nc, const char *payload) {
    jsSubOptions options;
    natsSubscription *sub = NULL;
    (void)payload;
    check(jsSubOptions_Init(&options), "options");
    options.Stream = STREAM;
    options.Consumer = CONSUMER;
    check(js_PullSubscribe(&sub, jetstream(nc), SUBJECT, CONSUMER, NULL, &options, NULL), "pull subscribe");
    js_take(sub, job.warmup);
    start_clock();
    js_take(sub, job.count);
    flush(nc);
    stop_clock();
    finish(job.count, "");
}

/* --- what to do ------------------------------------------------------------------------------------------- */

static void parse(int count, char **arguments) {
    for (int i = 1; i < count; i++) {
        char *value = strchr(arguments[i], '=');
        if (value == NULL) continue;
        *value++ = 0;
        if (!strcmp(arguments[i], "kind")) job.kind = value;
        else if (!strcmp(arguments[i], "url")) job.url = value;
        else if (!strcmp(arguments[i], "ca")) job.ca = value;
        else if (!strcmp(arguments[i], "count")) job.count = atoll(value);
        else if (!strcmp(arguments[i], "warmup")) job.warmup = atoll(value);
        else if (!strcmp(arguments[i], "size")) job.size = atoll(value);
        else if (!strcmp(arguments[i], "in_flight")) job.in_flight = atoll(value);
        else if (!strcmp(arguments[i], "seconds")) job.seconds = atof(value);
    }
}

static const struct {
    const char *name;
    void (*measure)(natsConnection *nc, const char *payload);
} kinds[] = {
    {"publish", publish},
    {"receive", receive},
    {"iterate", iterate},
    {"pubsub", pubsub},
    {"latency", latency},
    {"requests", requests},
    {"memory", memory},
    {"js_publish_sync", js_publish_sync},
    {"js_publish_async", js_publish_async},
    {"js_consume", js_consume},
};

int main(int count, char **arguments) {
    if (count == 1) {
        printf("%s\n", NATS_VERSION_STRING);
        return 0;
    }
    if (count == 2 && !strcmp(arguments[1], "kinds")) {
        printf("[\"connect\"");
        for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) printf(", \"%s\"", kinds[i].name);
        printf("]\n");
        return 0;
    }
    parse(count, arguments);
    check(nats_Open(-1), "open");
    if (!strcmp(job.kind, "connect")) connect_often();
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(job.kind, kinds[i].name)) kinds[i].measure(connect_client(), calloc(1, (size_t)job.size + 1));
    fprintf(stderr, "unknown kind %s\n", job.kind);
    return 2;
}
