/* Preloaded: where $POOR names `links`, no file system has hard links. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

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
