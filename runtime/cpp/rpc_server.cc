// A TVM RPC server that is one executable: the runtime is inside, the board needs only glibc.
//
// Clients are served one after another, each by a child process: what crashes there takes nothing
// else with it.
#include <fcntl.h>
#include <getopt.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <tvm/runtime/base.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "handshake.h"
#include "session.h"

namespace tvm_eff {
namespace {

constexpr const char* kUsage =
    "usage: tvm_eff_server [options]\n"
    "A TVM RPC server for a board. It runs whatever its clients send it: let it listen only\n"
    "where you trust everybody.\n"
    "  --host ADDRESS       address to listen on (127.0.0.1; 0.0.0.0 for every network)\n"
    "  --port NUMBER        port to listen on (9090; 0 takes a free one)\n"
    "  --key NAME           key that clients must ask for (none)\n"
    "  --key-file PATH      file that holds the key, which no list of processes then shows\n"
    "  --port-file PATH     file to write the port to, once it listens\n"
    "  --work-dir FOLDER    where sessions keep their files ($TMPDIR or /tmp)\n"
    "  --exit-on-stdin-eof  stop, with the whole process group, when standard input closes\n"
    "  --version            print the version of TVM inside\n"
    "  --help               print this\n";

// How many clients may wait while one is served.
constexpr int kBacklog = 128;

struct Options {
  std::string host = "127.0.0.1";
  std::string port = "9090";
  std::string key;
  std::string port_file;
  std::string work_dir;
  bool exit_on_stdin_eof = false;
};

[[noreturn]] void Fail(const std::string& message) {
  std::fprintf(stderr, "tvm_eff_server: %s\n", message.c_str());
  std::exit(2);
}

std::string ErrorText() { return std::strerror(errno); }

void CheckPort(const std::string& port) {
  char* end = nullptr;
  long number = std::strtol(port.c_str(), &end, 10);
  if (port.empty() || *end != '\0' || number < 0 || number > 65535) {
    Fail("--port '" + port + "' is not a number from 0 to 65535");
  }
}

// Sessions change their folder, so the path must not depend on where the server stands.
std::string AbsoluteFolder(const std::string& folder) {
  char path[PATH_MAX];
  if (realpath(folder.c_str(), path) == nullptr || access(path, W_OK | X_OK) != 0) {
    Fail("cannot write to the folder " + folder + ": " + ErrorText() +
         "; name another with --work-dir");
  }
  return path;
}

// The one word in a file.
std::string KeyIn(const std::string& path) {
  std::ifstream file(path);
  std::string key, more;
  if (!file) Fail("cannot read the key file " + path + ": " + ErrorText());
  if (!(file >> key) || file >> more) Fail("the key file " + path + " must hold one word");
  return key;
}

Options Parse(int argc, char** argv) {
  enum { kHost = 1, kPort, kKey, kKeyFile, kPortFile, kWorkDir, kExitOnEof, kVersion, kHelp };
  const option known[] = {{"host", required_argument, nullptr, kHost},
                          {"port", required_argument, nullptr, kPort},
                          {"key", required_argument, nullptr, kKey},
                          {"key-file", required_argument, nullptr, kKeyFile},
                          {"port-file", required_argument, nullptr, kPortFile},
                          {"work-dir", required_argument, nullptr, kWorkDir},
                          {"exit-on-stdin-eof", no_argument, nullptr, kExitOnEof},
                          {"version", no_argument, nullptr, kVersion},
                          {"help", no_argument, nullptr, kHelp},
                          {nullptr, 0, nullptr, 0}};
  Options options;
  const char* temporary = std::getenv("TMPDIR");
  options.work_dir = temporary != nullptr ? temporary : "/tmp";
  for (int found; (found = getopt_long(argc, argv, "", known, nullptr)) != -1;) {
    switch (found) {
      case kHost: options.host = optarg; break;
      case kPort: options.port = optarg; break;
      case kKey: options.key = optarg; break;
      case kKeyFile: options.key = KeyIn(optarg); break;
      case kPortFile: options.port_file = optarg; break;
      case kWorkDir: options.work_dir = optarg; break;
      case kExitOnEof: options.exit_on_stdin_eof = true; break;
      case kVersion: std::puts(TVM_VERSION); std::exit(0);
      case kHelp: std::fputs(kUsage, stdout); std::exit(0);
      default: std::fputs(kUsage, stderr); std::exit(2);
    }
  }
  if (optind < argc) Fail(std::string("'") + argv[optind] + "' is not an option; see --help");
  CheckPort(options.port);
  options.work_dir = AbsoluteFolder(options.work_dir);
  return options;
}

int Listen(const Options& options) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  int code = getaddrinfo(options.host.c_str(), options.port.c_str(), &hints, &found);
  if (code != 0) Fail("--host '" + options.host + "': " + gai_strerror(code));
  int listener = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  int on = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (bind(listener, found->ai_addr, found->ai_addrlen) != 0 || listen(listener, kBacklog) != 0) {
    Fail("cannot listen on " + options.host + ":" + options.port + ": " + ErrorText() +
         "; choose another with --port, or 0 for a free one");
  }
  freeaddrinfo(found);
  return listener;
}

std::string BoundPort(int listener) {
  sockaddr_storage address{};
  socklen_t size = sizeof(address);
  char port[NI_MAXSERV];
  if (getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) != 0 ||
      getnameinfo(reinterpret_cast<sockaddr*>(&address), size, nullptr, 0, port, sizeof(port),
                  NI_NUMERICSERV) != 0) {
    Fail("cannot tell which port was taken: " + ErrorText());
  }
  return port;
}

// Renamed into place: whoever waits for the file never reads half a number.
void WritePortFile(const std::string& path, const std::string& port) {
  std::string draft = path + ".tmp";
  FILE* file = std::fopen(draft.c_str(), "w");
  if (file == nullptr) Fail("cannot write " + draft + ": " + ErrorText());
  std::fprintf(file, "%s\n", port.c_str());
  if (std::fclose(file) != 0 || std::rename(draft.c_str(), path.c_str()) != 0) {
    Fail("cannot write " + path + ": " + ErrorText());
  }
}

int signal_pipe[2];

void OnSignal(int) {
  [[maybe_unused]] ssize_t written = write(signal_pipe[1], "", 1);
}

StopSource WatchForStop(bool standard_input) {
  if (pipe2(signal_pipe, O_CLOEXEC | O_NONBLOCK) != 0) Fail("cannot make a pipe: " + ErrorText());
  struct sigaction action {};
  action.sa_handler = OnSignal;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return {standard_input ? STDIN_FILENO : -1, signal_pipe[0]};
}

// Returns when told to stop.
void ServeClients(const Options& options, int listener, const StopSource& stop) {
  Handshakes handshakes(options.key);
  while (true) {
    std::vector<pollfd> watched = {{listener, POLLIN, 0},
                                   {stop.standard_input, POLLIN, 0},
                                   {stop.signal_pipe, POLLIN, 0}};
    handshakes.Watch(&watched);
    if (poll(watched.data(), watched.size(), handshakes.Timeout()) < 0) {
      if (errno == EINTR) continue;
      Fail("cannot wait for clients: " + ErrorText());
    }
    if (stop.Stopped(watched[1].revents, watched[2].revents)) return;
    if (watched[0].revents != 0) {
      int connection = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection >= 0) handshakes.Add(connection);
    }
    auto client = handshakes.Proceed(watched);
    if (client && !ServeSession(*client, options.work_dir, listener, stop)) return;
  }
}

// Generated code links against the executable, so the C library's mathematics must be in the
// process even where the runtime itself does not call it.
[[gnu::used]] double (*const keep_libm)(double) = std::tanh;

}  // namespace
}  // namespace tvm_eff

int main(int argc, char** argv) {
  using namespace tvm_eff;
  Options options = Parse(argc, argv);
  StopSource stop = WatchForStop(options.exit_on_stdin_eof);
  int listener = Listen(options);
  std::string port = BoundPort(listener);
  if (!options.port_file.empty()) WritePortFile(options.port_file, port);
  std::fprintf(stderr, "tvm_eff_server: TVM %s, listening on %s:%s\n", TVM_VERSION,
               options.host.c_str(), port.c_str());
  ServeClients(options, listener, stop);
  // Only where the group is our own: otherwise it is our parent's.
  if (options.exit_on_stdin_eof && getpgrp() == getpid()) kill(0, SIGKILL);
  return 0;
}
