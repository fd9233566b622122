/* SPDX-License-Identifier: Apache-2.0 */
/* ask.c that writes log records from level info on to stderr, as "[LEVEL LOGGER: MESSAGE]". */
#define main ask
#include "../ask.c"
#undef main

static void record(void *user, int32_t level, const char *logger, const char *message) {
    (void)user;
    fprintf(stderr, "[%d %s: %s]\n", (int)level, logger, message);
}

int main(int argc, char **argv) {
    dynamo_log_set_callback(DYNAMO_LOG_INFO, record, NULL, NULL);
    return ask(argc, argv);
}
