#include "handshake.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "session.h"

namespace tvm_eff {
namespace {

constexpr int32_t kMagic = 0xff271;
constexpr int32_t kKeyMismatch = kMagic + 2;
constexpr size_t kHead = 2 * sizeof(int32_t);
// Behind the key, such as " -timeout=240".
constexpr size_t kOptions = 64;
constexpr size_t kMostGreetings = 64;
constexpr std::chrono::seconds kGreetingTime{10};

void SetOption(int socket, int level, int option) {
  int on = 1;
  setsockopt(socket, level, option, &on, sizeof(on));
}

int32_t IntegerAt(const std::string& bytes, size_t offset) {
  int32_t value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

// Takes as long wherever the two differ, so that a key cannot be guessed byte by byte.
bool Same(const std::string& left, const std::string& right) {
  if (left.size() != right.size()) return false;
  unsigned char difference = 0;
  for (size_t i = 0; i < left.size(); ++i) {
    difference |= static_cast<unsigned char>(left[i] ^ right[i]);
  }
  return difference == 0;
}

double SessionTimeout(std::istringstream* words) {
  const std::string option = "-timeout=";
  double timeout = 0;
  for (std::string word; *words >> word;) {
    if (word.compare(0, option.size(), option) != 0) continue;
    timeout = std::strtod(word.c_str() + option.size(), nullptr);
  }
  return timeout;
}

}  // namespace

void Handshakes::Add(int socket) {
  SetOption(socket, IPPROTO_TCP, TCP_NODELAY);
  SetOption(socket, SOL_SOCKET, SO_KEEPALIVE);
  fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
  if (greetings_.size() >= kMostGreetings) {
    close(greetings_.front().socket);
    greetings_.erase(greetings_.begin());
  }
  greetings_.push_back({socket, Clock::now() + kGreetingTime, ""});
}

void Handshakes::Watch(std::vector<pollfd>* watched) const {
  for (const Greeting& each : greetings_) watched->push_back({each.socket, POLLIN, 0});
}

int Handshakes::Timeout() const {
  if (greetings_.empty()) return -1;
  auto left = greetings_.front().until - Clock::now();
  auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::max<long long>(0, milliseconds + 1));
}

std::optional<Client> Handshakes::Proceed(const std::vector<pollfd>& polled) {
  auto readable = [&polled](int socket) {
    return std::any_of(polled.begin(), polled.end(), [socket](const pollfd& each) {
      return each.fd == socket && each.revents != 0;
    });
  };
  std::vector<Greeting> left;
  std::optional<Client> client;
  for (Greeting& each : greetings_) {
    if (client) {
      left.push_back(std::move(each));
      continue;
    }
    State state = readable(each.socket) ? Read(&each) : State::kUnfinished;
    if (state == State::kUnfinished && Clock::now() < each.until) {
      left.push_back(std::move(each));
      continue;
    }
    if (state == State::kWhole) client = Answer(each);
    if (!client) close(each.socket);
  }
  greetings_ = std::move(left);
  return client;
}

Handshakes::State Handshakes::Read(Greeting* greeting) const {
  std::string& received = greeting->received;
  const size_t longest = std::strlen("client:") + key_.size() + kOptions;
  while (true) {
    size_t wanted = kHead;
    if (received.size() >= kHead) {
      int32_t length = IntegerAt(received, sizeof(int32_t));
      if (IntegerAt(received, 0) != kMagic || length <= 0) return State::kRefused;
      if (static_cast<size_t>(length) > longest) {
        // No key of ours is as long, and its client waits for an answer.
        send(greeting->socket, &kKeyMismatch, sizeof(kKeyMismatch), MSG_NOSIGNAL);
        return State::kRefused;
      }
      wanted += static_cast<size_t>(length);
    }
    if (received.size() == wanted) return State::kWhole;
    char bytes[256];
    size_t most = std::min(sizeof(bytes), wanted - received.size());
    ssize_t count = recv(greeting->socket, bytes, most, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return State::kUnfinished;
    if (count <= 0) return State::kRefused;
    received.append(bytes, static_cast<size_t>(count));
  }
}

std::optional<Client> Handshakes::Answer(const Greeting& greeting) const {
  std::istringstream words(greeting.received.substr(kHead));
  std::string name;
  words >> name;
  if (!Same(name, "client:" + key_)) {
    send(greeting.socket, &kKeyMismatch, sizeof(kKeyMismatch), MSG_NOSIGNAL);
    std::fprintf(stderr, "tvm_eff_server: refused a client with another key\n");
    return std::nullopt;
  }
  fcntl(greeting.socket, F_SETFL, fcntl(greeting.socket, F_GETFL) & ~O_NONBLOCK);
  // The client was told the key; it needs no second copy of it.
  const std::string own = "server:";
  int32_t own_length = static_cast<int32_t>(own.size());
  std::string answer(reinterpret_cast<const char*>(&kMagic), sizeof(kMagic));
  answer.append(reinterpret_cast<const char*>(&own_length), sizeof(own_length));
  answer += own;
  if (!SendAll(greeting.socket, answer.data(), answer.size())) return std::nullopt;
  return Client{greeting.socket, SessionTimeout(&words)};
}

}  // namespace tvm_eff
