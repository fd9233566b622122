/* SPDX-License-Identifier: Apache-2.0 */
/* A program with more privileges than the user who started it (setuid, file capabilities) ignores the environment
 * variables that name programs to run: the library's own, PATH, and VIRTUAL_ENV. */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "support.h"

#if defined(__linux__)
#include <linux/capability.h>
#include <sys/auxv.h>
#include <sys/xattr.h>
#endif

enum { nobody = 65534 };

static char folder[] = "/tmp/dynamo-llm-privileges-XXXXXX";

static void path_of(char *path, const char *name) {
    snprintf(path, 256, "%s/%s", folder, name);
}

static int exists(const char *name) {
    char path[256];
    path_of(path, name);
    return access(path, F_OK) == 0;
}

/* Writes a program that leaves a trace if it is run as the Python interpreter. */
static void write_trap(const char *name) {
    char path[256];
    path_of(path, name);
    char *const slash = strrchr(path, '/');
    *slash = '\0';
    mkdir(path, 0755);
    *slash = '/';
    FILE *const file = fopen(path, "w");
    CHECK(file != NULL);
    fprintf(file, "#!/bin/sh\n: >%s/sprung\n", folder);
    CHECK(fclose(file) == 0 && chmod(path, 0755) == 0);
}

/* Runs in the privileged copy. Exit codes: 10 if the system granted no privileges, 0 if all variables were ignored. */
static int be_the_program(const char *name) {
    const int is_plain = strcmp(name, "plain") == 0;
#if defined(__linux__)
    if (!is_plain && getauxval(AT_SECURE) == 0) {
        return 10;
    }
#endif
    char *config = json("{'engine': 'no.such:Engine'}");
    CHECK(dynamo_runtime_create(config) == NULL);
    CHECK(is_plain == (strstr(dynamo_last_error(), "trap") != NULL));
    free(config);
    dynamo_runtime_t *runtime = start_echo();
    check_answer(sent(runtime, say("a b")), "a b", DYNAMO_END); /* all else works */
    dynamo_runtime_destroy(runtime);
    return 0;
}

/* Runs a copy of this program, as user `run_as` unless that is 0. */
static int run(const char *name, int run_as, char *const *variables) {
    char path[256];
    path_of(path, name);
    const pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (run_as > 0 && (setgid((gid_t)run_as) != 0 || setuid((uid_t)run_as) != 0)) {
            _exit(10);
        }
        char *const words[] = {path, (char *)name, NULL};
        execve(path, words, variables);
        _exit(errno == EACCES || errno == EPERM ? 10 : 11);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
    /* 127: the unprivileged user cannot read the library in this folder. */
    return WEXITSTATUS(status) == 127 ? 10 : WEXITSTATUS(status);
}

static void copy_self(const char *name) {
    char path[256];
    path_of(path, name);
    char command[600];
    snprintf(command, sizeof command, "cp /proc/%d/exe %s", (int)getpid(), path);
    CHECK(system(command) == 0 && chmod(path, 0755) == 0);
}

#if defined(__linux__)
/* Sets cap_net_bind_service in the format of setcap(8). */
static int give_capability(const char *name) {
    char path[256];
    path_of(path, name);
    struct vfs_cap_data data;
    memset(&data, 0, sizeof data);
    data.magic_etc = VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE;
    data.data[0].permitted = 1u << CAP_NET_BIND_SERVICE;
    return setxattr(path, "security.capability", &data, sizeof data, 0);
}
#endif

static void the_environment_is_a_strangers(void) {
    if (geteuid() != 0) {
        fprintf(stderr, "    skipped: only root can make programs with other rights\n");
        return;
    }
    CHECK(mkdtemp(folder) != NULL && chmod(folder, 0777) == 0);
    write_trap("trap/python3");
    write_trap("trap/bin/python");
    char named[300], search[300], environment[300];
    snprintf(named, sizeof named, "DYNAMO_LLM_PYTHON=%s/trap/python3", folder);
    snprintf(search, sizeof search, "PATH=%s/trap", folder);
    snprintf(environment, sizeof environment, "VIRTUAL_ENV=%s/trap", folder);
    char *const all[] = {named, search, environment, NULL};
    char *const paths[] = {search, environment, NULL};

    /* Without privileges the variables are used: this proves that the traps work. */
    copy_self("plain");
    CHECK(run("plain", 0, all) == 0 && exists("sprung"));
    int tried = 0;
    struct {
        const char *name;
        int run_as;
        int is_made;
    } programs[] = {{"set-group-id", 0, 0}, {"set-user-id", 0, 0}, {"capability", nobody, 0}};
    for (int i = 0; i < 3; ++i) {
        char path[256];
        path_of(path, programs[i].name);
        copy_self(programs[i].name);
        programs[i].is_made = i == 0   ? chown(path, 0, nobody) == 0 && chmod(path, 02755) == 0
                              : i == 1 ? chown(path, nobody, 0) == 0 && chmod(path, 04755) == 0
#if defined(__linux__)
                                       : give_capability(programs[i].name) == 0;
#else
                                       : 0;
#endif
        for (int j = 0; programs[i].is_made && j < 2; ++j) {
            char sprung[256];
            path_of(sprung, "sprung");
            unlink(sprung);
            const int code = run(programs[i].name, programs[i].run_as, j == 0 ? all : paths);
            if (code == 10) {
                fprintf(stderr, "    skipped: the system gives no rights to %s\n",
                        programs[i].name);
                break;
            }
            CHECK(code == 0);
            CHECK(!exists("sprung"));
            ++tried;
        }
    }
    if (tried > 0) {
        RELIABILITY(
            "a set-user-ID, set-group-ID or capability program is started with a hostile "
            "environment",
            tried, "no variable is obeyed");
    }
    char command[64];
    snprintf(command, sizeof command, "rm -r %s", folder);
    CHECK(system(command) == 0);
}

int main(int count, char **words) {
    BEGIN();
    if (count > 1) {
        /* Skips exit handlers: LeakSanitizer cannot inspect a privileged process. */
        _exit(be_the_program(words[1]));
    }
    RUN(the_environment_is_a_strangers);
    return 0;
}
