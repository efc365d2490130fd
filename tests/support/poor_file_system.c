/* Preloaded: file systems without what $POOR names: hard `links`, or to `replace` by renaming. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int refused(void) {
  errno = EPERM;
  return -1;
}

static int lacks(const char *what) {
  const char *poor = getenv("POOR");
  return poor && strstr(poor, what);
}

int link(const char *from, const char *to) {
  static int (*real)(const char *, const char *);
  if (!real) real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "link");
  return lacks("links") ? refused() : real(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
  static int (*real)(int, const char *, int, const char *, int);
  if (!real) real = (int (*)(int, const char *, int, const char *, int))dlsym(RTLD_NEXT, "linkat");
  return lacks("links") ? refused() : real(a, from, b, to, flags);
}

static int taken(int folder, const char *name) {
  struct stat found;
  return lacks("replace") && fstatat(folder, name, &found, AT_SYMLINK_NOFOLLOW) == 0;
}

static int exists(void) {
  errno = EEXIST;
  return -1;
}

int rename(const char *from, const char *to) {
  static int (*real)(const char *, const char *);
  if (!real) real = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
  return taken(AT_FDCWD, to) ? exists() : real(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
  static int (*real)(int, const char *, int, const char *);
  if (!real) real = (int (*)(int, const char *, int, const char *))dlsym(RTLD_NEXT, "renameat");
  return taken(b, to) ? exists() : real(a, from, b, to);
}
