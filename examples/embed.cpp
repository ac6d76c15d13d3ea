// Detects with a plain graph (ssd export RUN --format onnx --plain) and OpenCV alone; see docs/embed.md.
#include <cstdio>
#include <opencv2/dnn.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

int main(int count, char **words) {
    if (count < 3) return std::fprintf(stderr, "usage: %s best.plain.onnx image [side]\n", words[0]), 2;
    const int side = count > 3 ? std::atoi(words[3]) : 300;
    cv::dnn::Net network = cv::dnn::readNetFromONNX(words[1]);
    cv::Mat image = cv::imread(words[2]), small;
    if (image.empty()) return std::fprintf(stderr, "%s: not an image\n", words[2]), 2;

    // The resize rule "area": filter what shrinks, then stretch what is smaller.
    cv::resize(image, small, {std::min(side, image.cols), std::min(side, image.rows)}, 0, 0, cv::INTER_AREA);
    cv::resize(small, small, {side, side}, 0, 0, cv::INTER_LINEAR);
    network.setInput(cv::dnn::blobFromImage(small, 1.0, cv::Size(), cv::Scalar(), /*swapRB=*/true));
    std::vector<cv::Mat> outputs;
    network.forward(outputs, std::vector<cv::String>{"boxes", "scores"});

    const int boxes = outputs[0].size[1], columns = outputs[1].size[2];  // background is column 0
    for (int column = 1; column < columns; ++column) {
        std::vector<cv::Rect2d> corners;
        std::vector<float> scores;
        for (int box = 0; box < boxes; ++box) {
            const float *side4 = outputs[0].ptr<float>(0, box);  // x1 y1 x2 y2, fractions of the image
            corners.emplace_back(cv::Point2d(side4[0] * image.cols, side4[1] * image.rows),
                                 cv::Point2d(side4[2] * image.cols, side4[3] * image.rows));
            scores.push_back(outputs[1].ptr<float>(0, box)[column]);
        }
        std::vector<int> kept;
        cv::dnn::NMSBoxes(corners, scores, 0.5f, 0.45f, kept, 1.f, 400);
        for (int box : kept)
            std::printf("%d %.6f %.3f %.3f %.3f %.3f\n", column - 1, scores[box], corners[box].x, corners[box].y,
                        corners[box].br().x, corners[box].br().y);
    }
}
