// A subscriber with libnats and nothing else: nats_sub PORT SUBJECT COUNT. It writes each payload and a newline.
#include <nats.h>
#include <stdio.h>
#include <stdlib.h>

static void check(natsStatus status) {
    if (status != NATS_OK) {
        fprintf(stderr, "%s\n", natsStatus_GetText(status));
        exit(1);
    }
}

int main(int argc, char **argv) {
    if (argc != 4) {
        return 2;
    }
    char url[64];
    snprintf(url, sizeof url, "nats://127.0.0.1:%s", argv[1]);
    natsConnection *connection = NULL;
    natsSubscription *subscription = NULL;
    check(natsConnection_ConnectTo(&connection, url));
    check(natsConnection_SubscribeSync(&subscription, connection, argv[2]));
    // Without limits: at the default ones it drops what it can't keep up with.
    check(natsSubscription_SetPendingLimits(subscription, -1, -1));
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    for (long count = atol(argv[3]); count > 0; count--) {
        natsMsg *message = NULL;
        check(natsSubscription_NextMsg(&message, subscription, 60000));
        fwrite(natsMsg_GetData(message), 1, natsMsg_GetDataLength(message), stdout);
        putchar('\n');
        natsMsg_Destroy(message);
    }
    fflush(stdout);
    return 0;
}
